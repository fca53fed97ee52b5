// The explorer: candidates, communities, marks, thumbnails. The template puts explorer_map.js and explorer_lists.js behind it,
// all in one function. `data` holds columns, a value per candidate; candidates lie by class, community, centrality.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent), n = data.id.length, classes = data.classes;
const COLOURS = 8, SHAPES = 4, PLANE = 10000, PAGE = 120, LIST = 200;
const KEY = `histodistill explorer ${data.digest}`;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = value => value.toLocaleString("en");

// ---- communities: runs of neighbours ----
const runs = [], runOf = new Int32Array(n);
for (let i = 0; i < n; i++) {
  const last = runs[runs.length - 1];
  if (!last || last.label !== data.label[i] || last.community !== data.community[i])
    runs.push({label: data.label[i], community: data.community[i], start: i, end: i, chosen: 0, place: -1});
  const run = runs[runs.length - 1];
  run.end = i + 1;
  run.chosen += data.rank[i] >= 0 ? 1 : 0;
  runOf[i] = runs.length - 1;
}
const size = run => run.end - run.start;
const bySize = runs.map((_, r) => r).sort((a, b) => (runs[a].community < 0) - (runs[b].community < 0) ||
  size(runs[b]) - size(runs[a]) || a - b);
const placed = new Map();
for (const r of bySize) if (runs[r].community >= 0) {
  const place = placed.get(runs[r].label) || 0;
  runs[r].place = place;
  placed.set(runs[r].label, place + 1);
}
const median = values => values.sort((a, b) => a - b)[values.length >> 1];
for (const run of runs) {
  run.x = median(data.x.slice(run.start, run.end));
  run.y = median(data.y.slice(run.start, run.end));
}
const nameOf = run => `${classes[run.label]} · ${run.community >= 0 ? run.community : "in no community"}`;
const first = new Map();
for (let i = n - 1; i >= 0; i--) first.set(data.id[i], i);

// ---- marks: by tile id, kept by the browser where it lets us ----
const marks = new Map(), lastReason = {exclude: "", keep: ""};
let kept = true, unsaved = false;
const remember = () => {
  try { localStorage.setItem(KEY, JSON.stringify([...marks])); } catch { kept = false; }
  unsaved = true;
  if (!kept) {
    $("unkept").hidden = false;
    $("unkept").textContent = "This browser does not let the page keep your marks: download the lists before you close it.";
  }
};
(() => {
  let known = null;
  try { known = JSON.parse(localStorage.getItem(KEY)); } catch { kept = false; }
  const start = Array.isArray(known) ? known : data.pins.map(([kind, id, reason]) => [id, {kind, reason}]);
  for (const [id, mark] of start) marks.set(id, mark);
})();
addEventListener("beforeunload", event => { if (!kept && unsaved && marks.size) event.preventDefault(); });
const kindOf = i => marks.get(data.id[i])?.kind;
const WORDS = {exclude: "left out", keep: "kept"};
const toggle = (i, kind) => {
  if (kindOf(i) === kind) marks.delete(data.id[i]);
  else marks.set(data.id[i], {kind, reason: lastReason[kind]});
  remember();
  refresh(i);
  say(`Tile ${data.id[i]} ${kindOf(i) ? WORDS[kind] : "no longer marked"}.`);
};

// ---- thumbnails: a sheet is decoded when one of its tiles is first wanted ----
const sources = [...document.querySelectorAll("script.sheet")], images = [], perSheet = data.across ** 2;
const decoded = k => images[k]?.bitmap;
const sheet = k => {
  if (!images[k]) {
    const image = new Image(), one = images[k] = {bitmap: null};
    image.src = sources[k].textContent.trim();
    one.done = image.decode().then(() => createImageBitmap(image)).then(bitmap => { draw(); return one.bitmap = bitmap; });
  }
  return images[k].done;
};
const cut = (context, image, i, x, y, side) => {
  const at = i % perSheet, edge = data.edge;
  context.drawImage(image, at % data.across * edge, Math.floor(at / data.across) * edge, edge, edge, x, y, side, side);
};
const paint = (canvas, i) => {
  canvas.width = canvas.height = data.edge;
  canvas.dataset.tile = i;
  sheet(Math.floor(i / perSheet)).then(image => {
    if (Number(canvas.dataset.tile) === i) cut(canvas.getContext("2d"), image, i, 0, 0, data.edge);
  });
};
