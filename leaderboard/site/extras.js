/* Training curves and pictures of a submission, where the page was given some. */
let given = null;
const extras = () => (given ??= document.getElementById("extras") ? embedded("extras") : { curves: {}, tables: {}, pictures: [] });

const CHART = { width: 300, height: 130, left: 48, right: 8, top: 8, bottom: 22 };
const significant = (value) => String(Number(value.toPrecision(3)));
const extremes = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [values[0], values[0]]);

/* A value over the steps of a training; where its standard errors are known, with 95 % intervals. */
const chart = ({ name, steps, values, errors }) => {
  const { width, height, left, right, top, bottom } = CHART;
  const reach = values.map((_, at) => (errors ? 1.96 * errors[at] : 0));
  const across = extremes(steps);
  const up = extremes(values.flatMap((value, at) => [value - reach[at], value + reach[at]]));
  const place = ([low, high], from, to) => (value) => fixed(high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
  const [x, y] = [place(across, left, width - right), place(up, height - bottom, top)];
  const last = values.length - 1;
  const said = `${name}: from ${significant(values[0])} at step ${steps[0]} to ${significant(values[last])} at step ${steps[last]}, between ${significant(Math.min(...values))} and ${significant(Math.max(...values))}`;
  const label = (text, at) => draw("text", at, text);
  const svg = draw("svg", { class: "curve", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
    draw("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
    label(significant(up[1]), { x: left - 5, y: top + 8, "text-anchor": "end" }),
    label(significant(up[0]), { x: left - 5, y: height - bottom, "text-anchor": "end" }),
    label(`step ${steps[0]}`, { x: left, y: height - 6 }),
    label(String(across[1]), { x: width - right, y: height - 6, "text-anchor": "end" }));
  if (errors) svg.append(draw("path", { class: "whisker", d: values.map((value, at) => `M${x(steps[at])} ${y(value - reach[at])}V${y(value + reach[at])}`).join("") }));
  svg.append(draw("path", { class: "line", d: `M${values.map((value, at) => `${x(steps[at])} ${y(value)}`).join("L")}` }));
  if (errors || !last) svg.append(...values.map((value, at) => draw("circle", { class: "dot", cx: x(steps[at]), cy: y(value), r: 2.6 })));
  return make("figure", {}, make("figcaption", {}, name), svg);
};

const pictureTable = ({ title, rows }) =>
  scrolling(title, make("table", { class: "pictures" }, make("caption", {}, title), make("tbody", {}, rows.map(([name, pictures]) => make("tr", {},
    make("th", { scope: "row" }, name), pictures.map((at, image) => make("td", {}, make("img", { src: extras().pictures[at], alt: `${name}, image ${image + 1}` }))))))));

const extrasOf = (cards) => {
  const several = cards.length > 1;
  const of = (found, draw_) => cards.filter((card) => found[card.sha256]).map((card) => [several ? make("h4", {}, card.name) : null, draw_(found[card.sha256])]);
  const curves = of(extras().curves, (found) => make("div", { class: "curves" }, found.map(chart)));
  const tables = of(extras().tables, (found) => found.map(pictureTable));
  return [
    curves.length ? [make("h3", {}, "Training"), curves, make("p", { class: "reading" }, "Each point of a loss is the mean of a section of the training. Whiskers: 95 % intervals for the draw of the probed images. Losses of different methods measure different things and cannot be compared.")] : null,
    tables.length ? [make("h3", {}, "Pictures"), tables] : null,
  ];
};
