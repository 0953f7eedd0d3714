"use strict";
(() => {
  const { left, right, low, high, charts } = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;

  /* Theme: the system's until the reader chooses; the choice is kept where the browser allows it. */
  const remember = (value) => {
    try {
      if (value) localStorage.setItem("densebench-theme", value);
      return localStorage.getItem("densebench-theme");
    } catch {
      return null; /* No storage for this page: the choice holds until it is closed. */
    }
  };
  const chosen = remember();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const theme = document.getElementById("theme");
  const label = () => theme.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
  label();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });

  /* One cursor for all charts: the values at the step under the pointer, or, with the arrow keys, at the next step. */
  const figures = Array.from(document.querySelectorAll("figure"), (figure) => {
    const outputs = Array.from(figure.querySelectorAll("output"));
    return {
      runs: charts[figure.dataset.chart], outputs,
      newest: outputs.map((output) => output.textContent),
      svg: figure.querySelector("svg"), cursor: figure.querySelector(".cursor"),
    };
  });
  const status = document.getElementById("step");
  let current = null;

  const nearest = (steps, step) => {
    let from = 0;
    let to = steps.length - 1;
    while (to - from > 1) {
      const middle = (from + to) >> 1;
      if (steps[middle] <= step) from = middle;
      else to = middle;
    }
    return Math.abs(steps[from] - step) <= Math.abs(steps[to] - step) ? from : to;
  };
  const text = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(4))));
  const show = (step) => {
    current = step;
    status.hidden = false;
    status.textContent = `Step ${Math.round(step)}`;
    const at = left + ((step - low) / (high - low)) * (right - left);
    for (const { runs, outputs, cursor } of figures) {
      cursor.setAttribute("visibility", "visible");
      cursor.setAttribute("transform", `translate(${at} 0)`);
      outputs.forEach((output, run) => {
        const [steps, values] = runs[run];
        if (steps.length) output.textContent = step > steps[steps.length - 1] ? "-" : text(values[nearest(steps, step)]);
      });
    }
  };
  const hide = () => {
    current = null;
    status.hidden = true;
    for (const { outputs, newest, cursor } of figures) {
      cursor.setAttribute("visibility", "hidden");
      outputs.forEach((output, run) => (output.textContent = newest[run]));
    }
  };
  for (const { svg, runs } of figures) {
    const steps = Array.from(new Set(runs.flatMap(([logged]) => logged))).sort((a, b) => a - b);
    if (!steps.length) continue;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      const share = Math.min(Math.max((x - left) / (right - left), 0), 1);
      show(steps[nearest(steps, low + share * (high - low))]);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const at = current === null ? steps.length : nearest(steps, current);
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      else if (next !== undefined) show(steps[Math.min(Math.max(next, 0), steps.length - 1)]);
      else return;
      event.preventDefault();
    });
  }
})();
