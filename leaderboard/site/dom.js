/* Small helpers. Texts of strangers only ever become text nodes. */
const root = document.documentElement;
const all = (selector, scope = document) => Array.from(scope.querySelectorAll(selector));

const make = (tag, attributes, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
};
const link = (href, ...children) => make("a", { href }, ...children);
const heading = (text, attributes) => make("th", { scope: "col", ...attributes }, text);
/* A table wider than a phone: the keyboard scrolls it when it has the focus. */
const scrolling = (title, table) => make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": title }, table);

const draw = (tag, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/* Fixed decimals as Python's format "z.1f" gives them: exact ties go to the even digit, and -0.0 is 0.0. */
const fixed = (value, decimals = 1) => {
  let digits = Math.abs(value).toFixed(decimals);
  const tie = Math.abs(value) * 2 ** (decimals + 1);
  const last = Number(digits.at(-1));
  if (Number.isInteger(tie) && tie % 2 === 1 && last % 2 === 1) digits = digits.slice(0, -1) + (last - 1);
  return value < 0 && Number(digits) !== 0 ? `-${digits}` : digits;
};
const number = (value, decimals = 2) => (value === null || value === undefined ? "–" : fixed(value, decimals));
const span = ([low, high]) => (low < 0 && fixed(low) !== "0.0" ? `${fixed(low)} to ${fixed(high)}` : `${fixed(low)}–${fixed(high)}`);
const grouped = (value) => (value === null || value === undefined ? null : String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009"));
const plural = (count, word) => `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;
const distinct = (values) => Array.from(new Set(values.filter((value) => value !== null && value !== undefined && value !== ""))).join(", ");

/* A dot with whiskers on a common scale, with a thin line at the value of random initialization or at 0. */
const MARK = { width: 132, margin: 6 };
const scaleOf = (estimates) => {
  const ends = estimates.flatMap((one) => interval(one) ?? [one.mean]);
  let [low, high] = [Math.min(...ends.slice(0, 1)), Math.max(...ends.slice(0, 1))];
  for (const end of ends) {
    if (end < low) low = end;
    if (end > high) high = end;
  }
  if (!ends.length) [low, high] = [0, 1];
  return high - low > 1e-9 ? { low, high } : { low: low - 0.5, high: high + 0.5 };
};
const mark = (one, scale, anchor) => {
  const x = (value) => fixed(MARK.margin + Math.min(Math.max((value - scale.low) / (scale.high - scale.low), 0), 1) * (MARK.width - 2 * MARK.margin));
  const svg = draw("svg", { class: "mark", width: MARK.width, height: 18, viewBox: `0 0 ${MARK.width} 18`, "aria-hidden": "true", focusable: "false" });
  if (anchor !== null) svg.append(draw("path", { class: "anchor", d: `M${x(anchor)} 2v14` }));
  const ends = interval(one);
  if (ends) svg.append(draw("path", { class: "whisker", d: `M${x(ends[0])} 9H${x(ends[1])}M${x(ends[0])} 5.5v7M${x(ends[1])} 5.5v7` }));
  svg.append(draw("circle", { class: "dot", cx: x(one.mean), cy: 9, r: 3.6 }));
  return svg;
};

/* Fields of a CSV that no spreadsheet takes for a formula: as leaderboard/text.py has them. */
const FORMULA = /(^|;)(?!\s*[+-]?\d+(?:\.\d*)?(?:;|$))(\s*[=+@\-\uff1d\uff0b\uff0d\uff20])/g;
const csvText = (rows) =>
  rows.map((fields) => fields.map((field) => {
    if (field === null || field === undefined) return "";
    const words = typeof field === "number" ? String(field) : field.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim().replace(FORMULA, "$1'$2");
    return /[",\n\r]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
  }).join(",")).join("\n") + "\n";
const download = (name, text) => {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const anchor = make("a", { href: url, download: name });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};
