"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const svgNode = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // ---- the table: sorting and filtering ----
  const table = byId("table");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.key;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        return x === "" || y === "" ? compare(x, y) : up ? compare(x, y) : compare(y, x);
      });
      body.append(...rows);
    });
  });
  const filter = byId("filter");
  const applyFilter = () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    byId("count").textContent = wanted ? `${shown} of ${body.rows.length}` : "";
  };
  filter.addEventListener("input", applyFilter);

  // ---- copying a config ----
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      const said = (text) => { button.textContent = text; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
      try {
        await navigator.clipboard.writeText(code.textContent);
        said("Copied");
      } catch {
        getSelection().selectAllChildren(code);
        said("Selected");
      }
    });
  }

  // ---- learning curves ----
  const names = Object.keys(data.curves);
  if (names.length === 0) { byId("curves").hidden = true; return; }
  // The colours of the charts are variables in the style; dashes tell lines apart as well.
  const colours = [1, 2, 3, 4, 5, 6, 7].map((n) => `var(--series-${n})`);
  const dashes = ["", "7 3", "2 3", "9 3 2 3", "12 4"];
  const style = (group) => ({
    colour: colours[group % colours.length],
    dash: dashes[(Math.floor(group / colours.length) + (group % 2)) % dashes.length],
  });
  const visible = data.groups.map((_, group) => group < 12);
  const select = byId("metric");
  for (const name of names) select.append(new Option(data.curves[name].title, name));
  let epoch = null;

  const legend = byId("legend");
  data.groups.forEach((group, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(visible[k]));
    const mark = svgNode("svg", { width: 26, height: 8, "aria-hidden": "true" });
    const { colour, dash } = style(k);
    mark.append(svgNode("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash }));
    const label = document.createElement("span");
    label.textContent = group.label;
    button.append(mark, label);
    button.addEventListener("click", () => {
      visible[k] = !visible[k];
      button.setAttribute("aria-pressed", String(visible[k]));
      draw();
    });
    legend.append(button);
  });

  const ticks = (low, high, count) => {
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= raw);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) found.push(Number(t.toPrecision(12)));
    return found;
  };
  const shown = (value) => String(value).replaceAll("-", "\u2212");
  const short = (value) => (value === null ? "" : shown(Number(value.toPrecision(4))));

  let place = null; // how the chart drawn last maps epochs to pixels
  function draw() {
    const curve = data.curves[select.value];
    byId("about").textContent = curve.about;
    const chart = byId("chart");
    const width = Math.max(chart.clientWidth, 280);
    const height = Math.round(Math.min(380, Math.max(240, width * 0.45)));
    const [left, right, top, bottom] = [52, 12, 12, 40];
    const values = [];
    let [first, last] = [Infinity, -Infinity];
    curve.groups.forEach((group, k) => {
      if (!visible[k]) return;
      for (const seed of group.seeds) values.push(...seed.filter((_, i) => i > 0 || seed.length < 3).map((p) => p[1]));
      for (const [e] of group.seeds.flat()) { first = Math.min(first, e); last = Math.max(last, e); }
    });
    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
    chart.replaceChildren(svg);
    if (values.length === 0) { place = null; readOut(); return; }
    // The untrained network lies far off, so the axis fits the later epochs and cuts off the first stretch.
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    [low, high] = [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
    const x = (e) => left + ((e - first) / Math.max(last - first, 1)) * (width - left - right);
    const y = (v) => top + ((high - v) / (high - low)) * (height - top - bottom);
    place = { x, first, last, left, right, width, top, bottom, height, svg };
    for (const t of ticks(low, high, 5)) {
      svg.append(svgNode("line", { class: "grid", x1: left, x2: width - right, y1: y(t), y2: y(t) }));
      svg.append(svgNode("text", { x: left - 8, y: y(t) + 4, "text-anchor": "end" }, shown(t)));
    }
    for (const t of ticks(first, last, Math.min(10, width / 60)).filter(Number.isInteger)) {
      svg.append(svgNode("text", { x: x(t), y: height - bottom + 18, "text-anchor": "middle" }, String(t)));
    }
    svg.append(svgNode("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"));
    const frame = svgNode("clipPath", { id: "frame" });
    frame.append(svgNode("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }));
    const inside = svgNode("g", { "clip-path": "url(#frame)" });
    svg.append(frame, inside);
    const line = (points) => points.map(([e, v], i) => `${i ? "L" : "M"}${x(e).toFixed(1)} ${y(v).toFixed(1)}`).join("");
    curve.groups.forEach((group, k) => {
      if (!visible[k]) return;
      const { colour, dash } = style(k);
      for (const points of group.lines) {
        const band = points.filter((p) => p[2] !== null);
        if (band.length < 2) continue;
        const outline = [...band.map((p) => [p[0], p[3]]), ...band.map((p) => [p[0], p[2]]).reverse()];
        inside.append(svgNode("path", { d: `${line(outline)}Z`, fill: colour, "fill-opacity": 0.14 }));
      }
      for (const seed of group.seeds) {
        inside.append(svgNode("path", { d: line(seed), fill: "none", stroke: colour, "stroke-opacity": 0.22, "stroke-width": 0.8 }));
      }
    });
    curve.groups.forEach((group, k) => {
      if (!visible[k]) return;
      const { colour, dash } = style(k);
      for (const points of group.lines) {
        const d = line(points) + (points.length > 1 ? "" : "h0.01"); // a line of one point is a dot
        inside.append(svgNode("path", { d, fill: "none", stroke: colour, "stroke-width": 2.4, "stroke-dasharray": dash, "stroke-linejoin": "round", "stroke-linecap": points.length > 1 ? "butt" : "round" }));
      }
    });
    svg.append(svgNode("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" }));
    readOut();
  }

  function readOut() {
    const out = byId("readout");
    out.replaceChildren();
    if (place === null || epoch === null) return;
    const cursor = place.svg.querySelector(".cursor");
    for (const [key, value] of [["x1", place.x(epoch)], ["x2", place.x(epoch)], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    const curve = data.curves[select.value];
    const head = document.createElement("b");
    head.textContent = `epoch ${epoch}`;
    out.append(head);
    const found = [];
    curve.groups.forEach((group, k) => {
      const point = visible[k] && group.lines.flat().find((p) => p[0] === epoch);
      if (point) found.push([k, point]);
    });
    found.sort((a, b) => b[1][1] - a[1][1]);
    for (const [k, point] of found.slice(0, 16)) {
      const span = document.createElement("span");
      const half = point[2] === null ? "" : ` \u00b1${short((point[3] - point[2]) / 2)}`;
      span.textContent = `${data.groups[k].label} ${short(point[1])}${half}${curve.unit === "%" ? " %" : ""}`;
      out.append(span);
    }
    if (found.length > 16) {
      const more = document.createElement("span");
      more.className = "more";
      more.textContent = `and ${found.length - 16} more`;
      out.append(more);
    }
  }

  const chart = byId("chart");
  const point = (event) => {
    if (place === null) return;
    const box = chart.getBoundingClientRect();
    const inner = ((event.clientX - box.left) * place.width) / box.width - place.left;
    const share = inner / (place.width - place.left - place.right);
    epoch = Math.round(Math.min(1, Math.max(0, share)) * (place.last - place.first)) + place.first;
    readOut();
  };
  chart.addEventListener("pointermove", point);
  chart.addEventListener("pointerdown", point); // a tap
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (place === null || (step === undefined && !["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    if (event.key === "Home") epoch = place.first;
    else if (event.key === "End") epoch = place.last;
    else epoch = Math.min(place.last, Math.max(place.first, (epoch ?? (step > 0 ? place.first - 1 : place.last + 1)) + step));
    readOut();
  });
  select.addEventListener("change", draw);
  addEventListener("resize", draw);
  addEventListener("beforeprint", draw);
  draw();
})();
