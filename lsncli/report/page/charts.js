// The histogram with its threshold line, and the ROC curves.

const SVG = "http://www.w3.org/2000/svg";
function draw(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const BINS = 60;
// The middle of a slider's thumb stays half a thumb away from the ends; the plot's axis does the same.
const INSET = 10;

// The share of images in each of some equal bins, as if there were BINS of them.
function binned(sets, bins = BINS) {
  const counts = new Float64Array(bins);
  let all = 0;
  for (const scores of sets) {
    for (const score of scores) {
      counts[Math.min(bins - 1, Math.max(0, Math.floor(shareOf(score) * bins)))]++;
    }
    all += scores.length;
  }
  return counts.map((count) => (all ? (count / all) * (bins / BINS) : 0));
}

function ticks(low, high, wanted) {
  if (page.odds) {
    const marks = [1e-4, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999];
    return marks.filter((mark) => mark >= low && mark <= high).map((mark) => [mark, String(mark)]);
  }
  const raw = (high - low) / wanted;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = base * [1, 2, 5, 10].find((factor) => factor * base >= raw);
  const places = Math.max(0, -Math.floor(Math.log10(step)));
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) {
    found.push([value, value.toFixed(places).replace("-", "−")]);
  }
  return found;
}

const histogram = {};

function drawHistogram() {
  const place = at("histogram");
  const width = Math.max(240, place.clientWidth);
  const height = width < 560 ? 220 : 270;
  const top = 34;
  const foot = height - 46;
  const x = (score) => INSET + shareOf(score) * (width - 2 * INSET);
  const found = binned(chosenSets().map((set) => set.scores));
  // A few hundred images in narrow bins would be a comb.
  const coarse = calibration && calibration.count < 3000 ? BINS / (calibration.count < 500 ? 3 : 2) : BINS;
  const reference = calibration ? binned([calibration.scores], coarse) : null;
  const most = Math.max(...found, ...(reference || [0])) || 1;
  const y = (share) => foot - (share / most) * (foot - top);
  const step = (width - 2 * INSET) / BINS;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-labelledby": "histogram-hint" });

  const clips = ["ood", "id"].map((side) => {
    const clip = draw("clipPath", { id: `clip-${side}` });
    clip.append(draw("rect", { y: 0, height, x: 0, width: 0 }));
    svg.append(clip);
    const bars = draw("g", { class: "bars", "clip-path": `url(#clip-${side})` });
    found.forEach((share, bin) => {
      if (share > 0) {
        const high = Math.max(1.5, foot - y(share));
        bars.append(draw("rect", { class: side, x: INSET + bin * step + 0.5, width: Math.max(0.5, step - 1), y: foot - high, height: high, rx: Math.min(2, step / 4) }));
      }
    });
    svg.append(bars);
    return clip.firstChild;
  });
  svg.append(draw("line", { class: "axis", x1: 0, x2: width, y1: foot + 0.5, y2: foot + 0.5 }));
  if (reference) {
    let path = `M${INSET} ${foot}`;
    reference.forEach((share, bin) => {
      path += `V${y(share).toFixed(1)}H${(INSET + (bin + 1) * step * (BINS / coarse)).toFixed(1)}`;
    });
    svg.append(draw("path", { class: "reference", d: `${path}V${foot}` }));
  }
  for (const [value, label] of ticks(page.low, page.high, width < 560 ? 4 : 7)) {
    svg.append(draw("text", { x: x(value), y: foot + 20, "text-anchor": "middle" }, label));
  }
  svg.append(draw("text", { x: width / 2, y: foot + 40, "text-anchor": "middle" }, "Score"));
  const line = draw("line", { class: "gamma-line", y1: 6, y2: foot });
  const ood = draw("text", { class: "side ood", y: 18, "text-anchor": "end" }, "← OOD");
  const id = draw("text", { class: "side id", y: 18 }, "ID →");
  svg.append(line, ood, id);
  place.replaceChildren(svg);
  Object.assign(histogram, { x, width, clips, line, ood, id });
  moveGamma();
}

function moveGamma() {
  const { x, width, clips, line, ood, id } = histogram;
  const where = Math.min(width, Math.max(0, x(state.gamma)));
  clips[0].setAttribute("width", where);
  clips[1].setAttribute("x", where);
  clips[1].setAttribute("width", width - where);
  line.setAttribute("x1", where);
  line.setAttribute("x2", where);
  ood.setAttribute("x", where - 10);
  id.setAttribute("x", where + 10);
  ood.setAttribute("visibility", where < 64 ? "hidden" : "visible");
  id.setAttribute("visibility", where > width - 48 ? "hidden" : "visible");
}

const DASHES = ["", "7 4", "2 4", "10 4 2 4", "14 5", "4 3"];
// After as many sets as there are colours, each colour comes back with another dash.
const dashOf = (place) => DASHES[(place + Math.floor(place / 6)) % 6];
const points = [];

function drawCurves() {
  if (!page.curves.length) return;
  at("curves").hidden = false;
  const known = ofKind("id").length ? "known ID images" : "held-out ID images";
  at("curves-hint").textContent =
    `How many of the ${known} stay as more of an OOD set gets in, from the strictest threshold to the loosest. ` +
    "The dots are the threshold above. AUROC: the chance that an ID image scores higher than an OOD image; " +
    "FPR95: how many OOD images get in when 95\u00a0% of the ID images do.";
  const side = 360;
  const [left, right, up, foot] = [44, 8, 8, 40];
  const x = (share) => left + share * (side - left - right);
  const y = (share) => side - foot - share * (side - foot - up);
  const svg = draw("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": "ROC curves" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw("line", { class: "axis", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }),
      draw("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}`),
      draw("text", { x: x(share), y: side - foot + 18, "text-anchor": "middle" }, `${100 * share}`),
    );
  }
  svg.append(
    draw("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    draw("text", { x: x(0.5), y: side - 4, "text-anchor": "middle" }, "% of OOD let in"),
    draw("text", { x: -y(0.5), y: 10, "text-anchor": "middle", transform: "rotate(-90)" }, "% of ID kept"),
  );
  page.curves.forEach((curve, place) => {
    const colour = `var(--c${place % 6})`;
    let path = "M";
    for (let step = 0; step < curve.kept.length; step++) path += `${x(curve.accepted[step]).toFixed(1)} ${y(curve.kept[step]).toFixed(1)}L`;
    const line = draw("path", { class: "curve", d: path.slice(0, -1), "stroke-dasharray": dashOf(place) });
    const point = draw("circle", { class: "point", r: 6 });
    line.style.stroke = colour;
    point.style.fill = colour;
    svg.append(line);
    points.push(point);
  });
  svg.append(...points);
  at("roc").replaceChildren(svg);
  Object.assign(points, { x, y });
}

function movePoints() {
  if (!page.curves.length) return;
  const known = total(ofKind("id"));
  const kept = known.all ? 1 - known.ood / known.all : keptOfCalibration(state.gamma);
  const table = at("curves-table");
  const head = make("tr", {}, ...["OOD set", "Images", "AUROC", "FPR95", "Caught now"].map((text, column) => make("th", { scope: "col", class: column ? "number" : null }, text)));
  const lines = page.curves.map((curve, place) => {
    const set = page.sets[curve.set];
    const { all, ood } = counted(set);
    points[place].setAttribute("cx", points.x(1 - ood / all));
    points[place].setAttribute("cy", points.y(kept));
    const key = draw("svg", { class: "key", viewBox: "0 0 28 4" });
    const stroke = draw("line", { x1: 0, x2: 28, y1: 2, y2: 2, "stroke-width": 2.5, "stroke-dasharray": dashOf(place) });
    stroke.style.stroke = `var(--c${place % 6})`;
    key.append(stroke);
    const cells = [number.format(all), percent(curve.auroc, 1), percent(curve.fpr95, 1), percent(ood, all)];
    return make("tr", {}, make("td", { class: "wide" }, key, set.name), ...cells.map((text) => make("td", { class: "number" }, text)));
  });
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...lines));
}
