// Two small charts, drawn as SVG. Takes numbers and returns elements; independent of the page.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 130, LEFT = 44, BOTTOM = 20, TOP = 8;

function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The next "round" number: 1, 2 or 5 times a power of ten. */
export function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

function frame(label, summary, top, width, format, series) {
  const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${label}: ${summary}` });
  for (const part of [0, 0.5, 1]) {
    const y = TOP + (HEIGHT - BOTTOM - TOP) * (1 - part);
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y }));
    svg.append(shape("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, format(top * part)));
  }
  const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  svg.append(shape("text", { x: LEFT, y: HEIGHT - 4 }, clock(series.points[0].at)));
  svg.append(shape("text", { x: width, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  return svg;
}

const height = (value, top) => ((HEIGHT - BOTTOM - TOP) * value) / top;
const column = (at, count, width) => LEFT + ((width - LEFT) * at) / count;

/** Stacked columns: confirmed below, every other outcome above. */
export function throughput(series, width) {
  const { points, columnMs } = series;
  const sum = (name) => points.reduce((total, point) => total + point[name], 0);
  const top = Math.max(2, ceiling(Math.max(...points.map((point) => point.confirmed + point.otherwise))));
  const summary = `${sum("confirmed")} confirmed, ${sum("otherwise")} otherwise in ${series.name}`;
  const svg = frame("Outcomes", summary, top, width, String, series);
  points.forEach((point, at) => {
    const x = column(at, points.length, width) + 1;
    const thickness = Math.max(1, (width - LEFT) / points.length - 2);
    let y = HEIGHT - BOTTOM;
    for (const part of ["confirmed", "otherwise"]) {
      if (point[part] === 0) continue;
      const size = height(point[part], top);
      y -= size;
      const bar = shape("rect", { class: part, x, y, width: thickness, height: size, rx: 1 });
      bar.append(shape("title", {}, `${point[part]} ${part} within ${columnMs / 1000} s`));
      svg.append(bar);
    }
  });
  return svg;
}

/** Two lines with gaps where nothing settled. */
export function latency(series, width, format) {
  const { points } = series;
  const worst = Math.max(0, ...points.map((point) => point.p95Ms ?? 0));
  const top = ceiling(Math.max(1000, worst));
  const last = points.findLast((point) => point.p50Ms !== null);
  const summary = last ? `median ${format(last.p50Ms)}, 95 % within ${format(last.p95Ms)}` : "nothing settled";
  const svg = frame("Accepted to final", summary, top, width, format, series);
  for (const [key, name, dot] of [["p95Ms", "p95", "dot95"], ["p50Ms", "p50", "dot50"]]) {
    let path = "", pen = false;
    points.forEach((point, at) => {
      if (point[key] === null) { pen = false; return; }
      const x = column(at + 0.5, points.length, width), y = HEIGHT - BOTTOM - height(point[key], top);
      path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = true;
      const alone = (points[at - 1]?.[key] ?? null) === null && (points[at + 1]?.[key] ?? null) === null;
      if (alone) svg.append(shape("circle", { class: dot, cx: x, cy: y, r: 2.2 }));
    });
    if (path) svg.append(shape("path", { class: name, d: path }));
  }
  return svg;
}
