// The map of the explorer: a canvas, its zoom, and what is found under a point.
// ---- the map ----
const map = $("map"), pen = map.getContext("2d"), view = {zoom: 1, x: PLANE / 2, y: PLANE / 2};
let wide = 0, high = 0, ratio = 1, asked = false, current = -1, hovered = -1, opened = -1, stamps = new Map();
let home = {wide: 1, high: 1, x: 0, y: 0};
const scale = () => view.zoom * 0.94 * Math.min(wide / home.wide, high / home.high);
const px = i => (data.x[i] - view.x) * scale() + wide / 2, py = i => (data.y[i] - view.y) * scale() + high / 2;
const radius = () => Math.min(9, Math.max(2, Math.min(5, 90 / Math.sqrt(n))) * view.zoom ** 0.4);
const shown = i => {
  const label = Number($("class").value), which = $("which").value;
  return (label < 0 || data.label[i] === label) && (which !== "chosen" || data.rank[i] >= 0) &&
    (which !== "marked" || marks.has(data.id[i]));
};
const seen = new Uint8Array(n);
const sift = () => { for (let i = 0; i < n; i++) seen[i] = shown(i) ? 1 : 0; };
const frame = () => {  // what "All" shows: every tile that is not filtered out
  let [left, right, top, bottom] = [PLANE, 0, PLANE, 0];
  for (let i = 0; i < n; i++) if (seen[i]) {
    [left, right] = [Math.min(left, data.x[i]), Math.max(right, data.x[i])];
    [top, bottom] = [Math.min(top, data.y[i]), Math.max(bottom, data.y[i])];
  }
  if (right >= left) home = {wide: Math.max(1, right - left), high: Math.max(1, bottom - top), x: (left + right) / 2, y: (top + bottom) / 2};
};
const path = (c, shape, x, y, r) => {
  c.beginPath();
  if (shape === 0) c.arc(x, y, r, 0, 7);
  else if (shape === 1) c.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else {
    const turn = shape === 2 ? -Math.PI / 2 : 0, corners = shape === 2 ? 3 : 4;
    for (let k = 0; k < corners; k++)
      c.lineTo(x + 1.25 * r * Math.cos(turn + k * 2 * Math.PI / corners), y + 1.25 * r * Math.sin(turn + k * 2 * Math.PI / corners));
    c.closePath();
  }
};
const stamp = (place, ring, r) => {
  const colour = place < 0 ? -1 : place % COLOURS, shape = place < 0 ? 0 : Math.floor(place / COLOURS) % SHAPES;
  const key = `${colour} ${shape} ${ring} ${r.toFixed(1)}`;
  if (!stamps.has(key)) {
    const canvas = document.createElement("canvas"), half = r * 1.25 + 4, c = canvas.getContext("2d");
    canvas.width = canvas.height = Math.ceil(2 * half * ratio);
    c.scale(ratio, ratio);
    path(c, shape, half, half, r);
    c.fillStyle = css(colour < 0 ? "--c-none" : `--c${colour}`);
    c.globalAlpha = ring ? 1 : 0.8;
    c.fill();
    c.globalAlpha = 1;
    if (ring) { path(c, shape, half, half, r + 1.6); c.lineWidth = 1.7; c.strokeStyle = css("--ink"); c.stroke(); }
    stamps.set(key, {canvas, half});
  }
  return stamps.get(key);
};
const draw = () => { if (!asked) { asked = true; requestAnimationFrame(redraw); } };
const redraw = () => {
  asked = false;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  const r = radius(), order = [[], []], marked = [];
  for (let i = 0; i < n; i++) {
    const x = px(i), y = py(i);
    if (!seen[i] || x < -20 || y < -20 || x > wide + 20 || y > high + 20) continue;
    order[data.rank[i] >= 0 ? 1 : 0].push(i);
    if (marks.has(data.id[i])) marked.push(i);
  }
  const near = view.zoom > 1.5 && order[0].length + order[1].length <= 100;
  for (const ring of [0, 1]) for (const i of order[ring]) {
    const place = runs[runOf[i]].place, image = near ? decoded(Math.floor(i / perSheet)) : null;
    if (near && !image) sheet(Math.floor(i / perSheet));
    pen.globalAlpha = !near && opened >= 0 && runOf[i] !== opened ? 0.35 : 1;
    if (image) {
      pen.fillStyle = css(place < 0 ? "--c-none" : `--c${place % COLOURS}`);
      pen.fillRect(px(i) - 23, py(i) - 23, 46, 46);
      cut(pen, image, i, px(i) - 20, py(i) - 20, 40);
      if (ring) { pen.lineWidth = 2; pen.strokeStyle = css("--ink"); pen.strokeRect(px(i) - 24, py(i) - 24, 48, 48); }
    } else {
      const {canvas, half} = stamp(place, ring, r);
      pen.drawImage(canvas, px(i) - half, py(i) - half, 2 * half, 2 * half);
    }
  }
  pen.globalAlpha = 1;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (const i of marked) written(kindOf(i) === "keep" ? "✓" : "×", px(i) + (near ? 18 : 0), py(i) - (near ? 18 : 0), 18, css(kindOf(i) === "keep" ? "--keep" : "--out"));
  const label = Number($("class").value), most = label < 0 ? 4 : 16;
  if (!near) for (const run of runs) if (run.place >= 0 && run.place < most && (label < 0 || run.label === label) && size(run) > 2)
    written(String(run.community), (run.x - view.x) * scale() + wide / 2, (run.y - view.y) * scale() + high / 2, 13, css("--ink"));
  for (const [i, colour] of [[hovered, "--ink"], [current, "--accent"]]) if (i >= 0 && seen[i]) {
    pen.beginPath();
    pen.arc(px(i), py(i), (near ? 30 : r + 5), 0, 7);
    pen.lineWidth = 3;
    pen.strokeStyle = css(colour);
    pen.stroke();
  }
};
const written = (text, x, y, points, colour) => {
  pen.font = `700 ${points}px system-ui, sans-serif`;
  pen.lineWidth = 3.5;
  pen.strokeStyle = css("--card");
  pen.strokeText(text, x, y);
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
};
const fit = () => {
  const box = map.getBoundingClientRect();
  [wide, high, ratio] = [box.width, box.height, Math.min(devicePixelRatio || 1, 3)];
  [map.width, map.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
  stamps = new Map();
  draw();
};
const whole = () => { frame(); [view.zoom, view.x, view.y] = [1, home.x, home.y]; draw(); };
const zoom = (factor, x = wide / 2, y = high / 2) => {
  const before = [(x - wide / 2) / scale() + view.x, (y - high / 2) / scale() + view.y];
  view.zoom = Math.min(200, Math.max(0.5, view.zoom * factor));
  [view.x, view.y] = [before[0] - (x - wide / 2) / scale(), before[1] - (y - high / 2) / scale()];
  draw();
};
const nearest = (x, y, reach) => {
  let best = -1, least = reach * reach;
  for (let i = 0; i < n; i++) if (seen[i]) {
    const d = (px(i) - x) ** 2 + (py(i) - y) ** 2;
    if (d < least) [best, least] = [i, d];
  }
  return best;
};
const towards = (dx, dy) => {  // the nearest tile within 45 degrees of a direction
  if (current < 0 || !seen[current]) return nearest(wide / 2, high / 2, 1e9);
  let best = current, least = Infinity;
  for (let i = 0; i < n; i++) if (seen[i] && i !== current) {
    const [x, y] = [px(i) - px(current), py(i) - py(current)], along = x * dx + y * dy, across = Math.abs(x * dy - y * dx);
    if (along > 0 && across <= along && along + across < least) [best, least] = [i, along + across];
  }
  return best;
};
const onto = i => {  // bring a tile into sight
  if (px(i) < 20 || py(i) < 20 || px(i) > wide - 20 || py(i) > high - 20) [view.x, view.y] = [data.x[i], data.y[i]];
  draw();
};
