// What the explorer says of tiles, its lists, the files it writes and reads, and what people do.
// ---- what is said of a tile ----
const say = text => { $("said").textContent = text; };
const facts = i => [
  ["class", classes[data.label[i]]],
  ["community", data.community[i] >= 0 ? `${data.community[i]} (${number(size(runs[runOf[i]]))} tiles)` : "none"],
  ["centrality", data.community[i] >= 0 ? `${data.centrality[i]} bits` : "–"],
  ["rank", data.rank[i] >= 0 ? `${data.rank[i] + 1} of those chosen of its class` : "not chosen"],
  ["why", data.reasons[data.reason[i]]],
];
const brief = i => `${classes[data.label[i]]} · ${data.community[i] >= 0 ? `community ${data.community[i]}` : "in no community"}` +
  ` · centrality ${data.centrality[i]} · ${data.rank[i] >= 0 ? `rank ${data.rank[i] + 1}` : "not chosen"}` +
  (kindOf(i) ? ` · ${WORDS[kindOf(i)]}` : "");
const tip = (i, x, y) => {
  $("tip").hidden = i < 0;
  map.style.cursor = i < 0 ? "grab" : "pointer";
  if (i < 0) return;
  const canvas = $("tip").querySelector("canvas");
  if (Number(canvas.dataset.tile) !== i || !canvas.dataset.tile) paint(canvas, i);
  $("tip").querySelector("span").textContent = brief(i);
  const box = $("tip").getBoundingClientRect();
  $("tip").style.left = `${Math.max(4, Math.min(x + 16, innerWidth - box.width - 6))}px`;
  $("tip").style.top = `${Math.max(4, y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18)}px`;
};
const choose = i => {
  current = i;
  $("detail").hidden = i < 0;
  if (i < 0) return draw();
  paint($("big"), i);
  $("big").setAttribute("aria-label", `Synthetic tile of class ${classes[data.label[i]]}`);
  $("detail-h").textContent = `Tile ${data.id[i]}`;
  $("facts").replaceChildren(...facts(i).flatMap(([what, value]) => [made("dt", what), made("dd", value)]));
  marking(i);
  say(brief(i));
  draw();
};
const marking = i => {
  const mark = marks.get(data.id[i]);
  $("leave").setAttribute("aria-pressed", String(mark?.kind === "exclude"));
  $("keep").setAttribute("aria-pressed", String(mark?.kind === "keep"));
  $("reason").disabled = !mark;
  $("reason").value = mark?.reason ?? "";
};
const made = (tag, text = "", name = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
};

// ---- tiles of a community ----
const button = i => {
  const one = made("button", "", "tile"), canvas = document.createElement("canvas");
  one.type = "button";
  one.dataset.i = i;
  one.tabIndex = -1;
  one.append(canvas);
  paint(canvas, i);
  dress(one, i);
  return one;
};
const dress = (one, i) => {
  one.classList.toggle("chosen", data.rank[i] >= 0);
  one.dataset.mark = kindOf(i) || "";
  one.setAttribute("aria-label", `tile ${data.id[i]}, ${brief(i)}`);
  one.title = `${data.id[i]} · ${brief(i)}${marks.get(data.id[i])?.reason ? `: ${marks.get(data.id[i]).reason}` : ""}`;
};
let waiting = [];
const lay = () => {
  const next = waiting.splice(0, PAGE).map(button), first = $("tiles").children.length === 0;
  $("tiles").append(...next);
  if (first && next.length) next[0].tabIndex = 0;
  $("more").hidden = !waiting.length;
  $("more").textContent = `Show ${number(Math.min(PAGE, waiting.length))} more of ${number(waiting.length)}`;
};
const open = (r, at = -1) => {
  opened = r;
  for (const one of $("communities").querySelectorAll("button[data-r]")) one.setAttribute("aria-pressed", String(Number(one.dataset.r) === r));
  const run = runs[r], all = [];
  for (let i = run.start; i < run.end; i++) if (seen[i] || i === at) all.push(i);
  $("tiles-h").textContent = nameOf(run);
  $("hint").textContent = `${number(all.length)} ${all.length === 1 ? "tile" : "tiles"}, the most central first; ` +
    `${number(run.chosen)} chosen. Arrow keys move, x leaves out, k keeps, Enter goes to the reason.`;
  waiting = [...all];
  $("tiles").replaceChildren();
  lay();
  while (at >= 0 && waiting.includes(at)) lay();
  choose(at >= 0 ? at : all[0] ?? -1);
  reach(current, false);
};
const reach = (i, focus) => {
  for (const one of $("tiles").children) {
    const here = Number(one.dataset.i) === i;
    one.tabIndex = here ? 0 : -1;
    one.classList.toggle("current", here);
    if (here && focus) one.focus();
  }
};
const meet = () => { if (innerWidth <= 900) $("detail").scrollIntoView(); };  // where the tiles lie below the map
const redress = id => {
  for (const one of document.querySelectorAll(".tile")) if (data.id[Number(one.dataset.i)] === id) dress(one, Number(one.dataset.i));
};
const refresh = i => {
  redress(data.id[i]);
  if (current >= 0) marking(current);
  tally();
  if ($("which").value === "marked") sift();
  draw();
};

// ---- the list of communities ----
let listed = LIST;
const list = () => {
  const label = Number($("class").value), all = bySize.filter(r => label < 0 || runs[r].label === label);
  const rows = all.slice(0, listed).map(r => {
    const run = runs[r], one = made("button", "", "community"), key = document.createElement("canvas");
    one.type = "button";
    one.dataset.r = r;
    one.setAttribute("aria-pressed", String(r === opened));
    const {canvas} = stamp(run.place, 0, 5);
    [key.width, key.height] = [canvas.width, canvas.height];
    key.getContext("2d").drawImage(canvas, 0, 0);
    one.append(key, made("span", nameOf(run), "name"), made("span", `${number(size(run))} tiles`, "soft"), made("span", run.chosen ? `${run.chosen} chosen` : "", "soft"));
    return one;
  });
  if (all.length > listed) {
    const more = made("button", `Show more of ${number(all.length)}`);
    more.type = "button";
    more.onclick = () => { listed += LIST; list(); };
    rows.push(more);
  }
  $("communities").replaceChildren(...rows);
};

// ---- lists to take away, and to read back in ----
const SAFE = /[",;\n\r]/;
const cell = text => SAFE.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
const of = kind => [...marks].filter(([, mark]) => mark.kind === kind);
const tally = () => {
  const [out, keep] = [of("exclude"), of("keep")], bare = [...marks.values()].filter(mark => !mark.reason).length;
  $("count").textContent = `${number(out.length)} left out, ${number(keep.length)} kept` + (bare ? `; ${number(bare)} without a reason.` : ".");
  $("save-exclude").disabled = !out.length;
  $("save-keep").disabled = !keep.length;
  $("forget").disabled = !marks.size;
  $("marked").replaceChildren(...[...out, ...keep].filter(([id]) => first.has(id)).slice(0, PAGE).map(([id]) => button(first.get(id))));
  for (const one of $("marked").children) one.tabIndex = 0;
};
const save = kind => {
  const lines = ["tile_id,reason", ...of(kind).map(([id, mark]) => `${id},${cell(mark.reason)}`)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], {type: "text/csv"}));
  link.download = `${kind}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  unsaved = false;
  $("told").textContent = `${kind}.csv: ${number(lines.length - 1)} tiles.`;
};
const parsed = text => {  // rows of cells; commas, semicolons or tabs; cells may be quoted
  const bare = text.replace(/^\ufeff/, ""), mark = [",", ";", "\t"].find(one => bare.split("\n")[0].includes(one)) || ",";
  const rows = [[""]];
  let quoted = false;
  for (let at = 0; at < bare.length; at++) {
    const c = bare[at], row = rows[rows.length - 1];
    if (c === '"' && quoted && bare[at + 1] === '"') { row[row.length - 1] += c; at++; }
    else if (c === '"') quoted = !quoted;
    else if (c === mark && !quoted) row.push("");
    else if (c === "\n" && !quoted) rows.push([""]);
    else if (c !== "\r" || quoted) row[row.length - 1] += c;
  }
  return rows.filter(row => row.some(one => one.trim()));
};
const load = async (kind, input) => {
  const [head, ...rows] = parsed(await input.files[0].text()), names = (head || []).map(one => one.trim());
  const [id, reason] = [names.indexOf("tile_id"), names.indexOf("reason")];
  let taken = 0, strange = 0;
  for (const row of id < 0 ? [] : rows) {
    const one = (row[id] || "").trim().toLowerCase();
    if (!first.has(one) && n === data.available) strange++;
    else { marks.set(one, {kind, reason: (row[reason] || "").trim().slice(0, 200)}); taken++; }
  }
  input.value = "";
  remember();
  everything();
  $("told").textContent = id < 0 ? "That file has no column tile_id." : `${number(taken)} tiles read` +
    (strange ? `; ${number(strange)} are no candidates of this selection and were not taken.` : ".");
};
const everything = () => {
  sift();
  tally();
  for (const one of document.querySelectorAll("#tiles .tile")) dress(one, Number(one.dataset.i));
  if (current >= 0) marking(current);
  draw();
};

// ---- what people do ----
let drag = null;
map.addEventListener("pointerdown", event => { map.setPointerCapture(event.pointerId); drag = {x: event.offsetX, y: event.offsetY, far: false}; });
map.addEventListener("pointermove", event => {
  if (drag) {
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (drag.far || Math.hypot(dx, dy) > 4) {
      [view.x, view.y] = [view.x - dx / scale(), view.y - dy / scale()];
      [drag.x, drag.y, drag.far, hovered] = [event.offsetX, event.offsetY, true, -1];
      tip(-1);
      draw();
    }
    return;
  }
  const i = nearest(event.offsetX, event.offsetY, radius() + 8);
  if (i !== hovered) { hovered = i; draw(); }
  tip(i, event.clientX, event.clientY);
});
map.addEventListener("pointerup", event => {
  const i = drag && !drag.far ? nearest(event.offsetX, event.offsetY, radius() + 8) : -1;
  drag = null;
  if (i >= 0) { open(runOf[i], i); meet(); }
});
map.addEventListener("pointercancel", () => { drag = null; });
map.addEventListener("pointerleave", () => { hovered = -1; tip(-1); draw(); });
map.addEventListener("wheel", event => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY); }, {passive: false});
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const marked = (event, i) => {
  const kind = {x: "exclude", k: "keep"}[event.key.toLowerCase()];
  if (!kind || i < 0 || event.ctrlKey || event.metaKey || event.altKey) return false;
  toggle(i, kind);
  return true;
};
map.addEventListener("keydown", event => {
  const arrow = ARROWS[event.key];
  if (arrow) { const i = towards(...arrow); if (i >= 0) { choose(i); onto(i); } }
  else if (event.key === "Enter" && current >= 0) { open(runOf[current], current); reach(current, true); }
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") whole();
  else if (event.key === "Escape") { opened = -1; draw(); }
  else if (!marked(event, current)) return;
  event.preventDefault();
});
$("tiles").addEventListener("keydown", event => {
  const at = [...$("tiles").children].indexOf(document.activeElement);
  if (at < 0) return;
  const all = [...$("tiles").children], box = all[0].getBoundingClientRect();
  const across = Math.max(1, all.filter(one => Math.abs(one.getBoundingClientRect().top - box.top) < 2).length);
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -at, End: all.length - 1 - at}[event.key];
  if (step !== undefined) {
    const next = all[at + step] || all[at];
    choose(Number(next.dataset.i));
    reach(current, true);
  } else if (event.key === "Enter") {
    choose(Number(all[at].dataset.i));
    if (!$("reason").disabled) $("reason").focus();
  } else if (!marked(event, Number(all[at].dataset.i))) return;
  event.preventDefault();
});
$("tiles").addEventListener("click", event => {
  const one = event.target.closest(".tile");
  if (one) { choose(Number(one.dataset.i)); reach(current, false); onto(current); }
});
$("marked").addEventListener("click", event => {
  const one = event.target.closest(".tile");
  if (one) { open(runOf[Number(one.dataset.i)], Number(one.dataset.i)); onto(current); $("detail").scrollIntoView({block: "nearest"}); }
});
$("communities").addEventListener("click", event => {
  const one = event.target.closest("button[data-r]");
  if (one) { open(Number(one.dataset.r)); if (current >= 0) onto(current); meet(); }
});
$("more").onclick = lay;
$("leave").onclick = () => toggle(current, "exclude");
$("keep").onclick = () => toggle(current, "keep");
$("reason").oninput = () => {
  const mark = marks.get(data.id[current]);
  if (!mark) return;
  mark.reason = lastReason[mark.kind] = $("reason").value.trim();
  remember();
  redress(data.id[current]);
  tally();
};
$("reason").onkeydown = event => { if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); reach(current, true); } };
$("in").onclick = () => zoom(1.5);
$("out").onclick = () => zoom(1 / 1.5);
$("whole").onclick = whole;
$("class").onchange = $("which").onchange = () => { opened = -1; listed = LIST; sift(); list(); whole(); };
$("tools").onsubmit = event => event.preventDefault();
$("find").oninput = $("find").onkeydown = event => {
  const text = $("find").value.trim().toLowerCase(), all = [];
  if (text) for (let i = 0; i < n; i++) if (data.id[i].startsWith(text)) all.push(i);
  $("found").textContent = text ? `${number(all.length)} found` : "";
  if (event.key === "Enter" && all.length) { open(runOf[all[0]], all[0]); onto(all[0]); }
};
$("save-exclude").onclick = () => save("exclude");
$("save-keep").onclick = () => save("keep");
$("read-exclude").onchange = event => load("exclude", event.target);
$("read-keep").onchange = event => load("keep", event.target);
$("forget").onclick = () => { if (confirm(`Forget ${number(marks.size)} marks?`)) { marks.clear(); remember(); everything(); } };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { fit(); list(); });
new ResizeObserver(fit).observe(map);
everything();
fit();
whole();
list();
