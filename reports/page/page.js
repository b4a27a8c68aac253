"use strict";
// The page can be read without this. It unpacks what has pictures when it is looked at, walks the steps, and keeps the
// place in the address: #cell=quiz2/ipv4/off/1&step=3&theme=dark. All markup was made and escaped by rpmig.
(() => {
  const all = (sel, within = document) => [...within.querySelectorAll(sel)];

  // unpack returns what is drawn of a scenario's cells, in a template: nothing of it is laid out before it is looked at.
  const unpacked = new WeakMap();
  const unpack = (row) => {
    const scenario = row.parentElement;
    if (!unpacked.has(scenario)) {
      unpacked.set(scenario, (async () => {
        const packed = Uint8Array.from(atob(scenario.querySelector(":scope > template").content.textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
        const parts = document.createElement("template");
        parts.innerHTML = await new Response(stream).text();
        return parts.content;
      })());
    }
    return unpacked.get(scenario);
  };

  // furnish puts into a row what a large page has packed of it.
  const furnish = async (row) => {
    if (row.querySelector(":scope > .pair")) return;
    const body = (await unpack(row)).querySelector(`[data-row="${row.id}"]`);
    if (body) row.append(...body.childNodes);
  };

  // show moves a cell to a step: its tables, its caption and its diagram, which it dims from there on if asked to.
  const show = (cell, step, dim) => {
    const range = cell.querySelector("input[type=range]");
    if (!range) return;
    step = Math.min(Math.max(step, 0), Number(range.max));
    range.value = step;
    for (const stage of all(".stage", cell)) {
      stage.hidden = Number(stage.dataset.step) !== step;
      if (stage.hidden) continue;
      const text = `${step + 1} of ${Number(range.max) + 1}, at ${stage.dataset.at}: ${stage.dataset.name}`;
      range.setAttribute("aria-valuetext", text);
      cell.querySelector("output").textContent = text;
    }
    const tables = all(".after", cell); // each as they look from its step on
    const after = tables.findLast((t) => Number(t.dataset.step) <= step);
    for (const t of tables) t.hidden = t !== after;
    for (const part of all(".sequence [data-step]", cell)) {
      const of = Number(part.dataset.step);
      part.classList.toggle("now", of === step);
      part.classList.toggle("later", dim && of > step);
    }
  };

  // walk moves a cell and, where the other one of the pair plays the same step, that one too.
  const walk = (cell, step) => {
    show(cell, step, true);
    const name = (c) => c.querySelector(`.stage[data-step="${step}"]`)?.dataset.name;
    for (const other of all(":scope > .cell", cell.parentElement)) {
      if (other !== cell && name(other) !== undefined && name(other) === name(cell)) show(other, step, true);
    }
  };

  // fill puts what is drawn of a cell into it. Several may ask, and all wait for the same.
  const filled = new WeakMap();
  const fill = (cell) => filled.get(cell) ?? filled.set(cell, filling(cell)).get(cell);
  const filling = async (cell) => {
    cell.ariaBusy = "true";
    await draw(cell);
    cell.ariaBusy = "false";
  };
  const draw = async (cell) => {
    let box;
    try {
      const parts = await unpack(cell.closest(".row"));
      box = parts.querySelector(`[data-for="${cell.id}"]`);
      const drawing = parts.querySelector(`[data-of="${cell.id}"]`);
      if (drawing) box.querySelector(":scope > details").before(drawing);
    } catch {
      box = document.createElement("p");
      box.className = "alarm";
      box.textContent = "This browser cannot unpack the pictures; the text says the same.";
    }
    if (!box) return;
    cell.insertBefore(box, cell.querySelector(":scope > details.text"));
    const range = box.querySelector("input[type=range]");
    if (!range) return;
    range.addEventListener("input", () => walk(cell, Number(range.value)));
    box.querySelector(".back").addEventListener("click", () => walk(cell, Number(range.value) - 1));
    box.querySelector(".on").addEventListener("click", () => walk(cell, Number(range.value) + 1));
    show(cell, Number(range.value), false);
  };

  const visible = async (details) => {
    if (details.matches(".row")) await furnish(details);
    await Promise.all(all(".cell", details).filter((c) => {
      for (let d = c.closest("details"); d; d = d.parentElement.closest("details")) if (!d.open) return false;
      return true;
    }).map(fill));
  };

  // toggle does not bubble; capturing sees it, on the way down.
  document.addEventListener("toggle", (e) => e.target.open && visible(e.target), true);

  const go = async () => {
    let hash = location.hash.slice(1);
    try { hash = decodeURIComponent(hash); } catch { /* as it is */ }
    const [place, ...rest] = hash.split("&");
    for (const option of rest.concat(place)) {
      if (/^theme=(light|dark)$/.test(option)) theme(option.slice(6));
    }
    let target = place && document.getElementById(place);
    if (!target && place.startsWith("cell=")) { // cell=SCENARIO/FAMILY/MODE/REPEAT is in row=SCENARIO/FAMILY
      const row = document.getElementById(place.replace(/^cell=(.*)\/[^/]*\/[^/]*$/, "row=$1"));
      if (row) await furnish(row);
      target = document.getElementById(place) ?? row;
    }
    if (!target) return;
    if (target.closest("[hidden]")) showAll();
    if (target.matches("details")) target.open = true;
    for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    await visible(target.closest("details") ?? target);
    const step = rest.find((o) => /^step=\d+$/.test(o));
    const slider = step && target.querySelector(".walk input[type=range]"); // of a cell
    if (slider) {
      walk(target, Number(step.slice(5)) - 1);
      slider.closest(".walk").scrollIntoView();
      slider.focus({ preventScroll: true });
      return;
    }
    target.scrollIntoView();
    if (target.matches(".cell")) {
      target.tabIndex = -1;
      target.focus({ preventScroll: true });
    }
  };

  // The filter: of the matrix and of what follows it, only what fits is shown.
  const [find, mode, verdict, found, keys] = ["find", "mode", "verdict", "found", "keys"].map((id) => document.getElementById(id));
  const rows = all("details.row");
  const fits = (el, words) => words.every((w) => el.dataset.find.toLowerCase().includes(w)) && el.dataset.was.split(" ").some((is) => {
    const at = is.lastIndexOf("=");
    if (mode.value && is.slice(0, at) !== mode.value) return false;
    return verdict.value === "-PASS" ? is.slice(at + 1) !== "PASS" : !verdict.value || is.slice(at + 1) === verdict.value;
  });
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter((w) => w);
    for (const el of all("[data-find]")) el.hidden = !fits(el, words);
    for (const s of all(".scenario")) s.hidden = !s.querySelector(":scope > .row:not([hidden])");
    const left = rows.filter((r) => !r.hidden).length;
    found.textContent = left === rows.length ? "" : `${left} of ${rows.length} shown`;
  };
  const showAll = () => {
    find.value = mode.value = verdict.value = "";
    filter();
  };
  for (const el of [find, mode, verdict]) el.addEventListener("input", filter);

  // jump goes from the row that has the focus, or was gone to last, to the next that is wanted.
  let last = -1;
  const jump = (by, wanted) => {
    const from = rows.indexOf(document.activeElement.closest("details.row"));
    if (from >= 0) last = from;
    for (let i = last + by; i >= 0 && i < rows.length; i += by) {
      if (rows[i].hidden || !wanted(rows[i])) continue;
      last = i;
      rows[i].querySelector("summary").focus();
      rows[i].scrollIntoView({ block: "nearest" });
      return;
    }
  };
  const notPass = (row) => row.dataset.was.split(" ").some((is) => is && !is.endsWith("=PASS"));
  const press = {
    "/": () => { find.scrollIntoView({ block: "nearest" }); find.focus(); },
    j: () => jump(1, () => true), k: () => jump(-1, () => true), n: () => jump(1, notPass), p: () => jump(-1, notPass),
  };
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    const typing = e.target.matches("input:not([type=checkbox], [type=range]), select");
    if (e.key === "Escape" && (typing || !rows.every((r) => !r.hidden))) {
      showAll();
      e.target.blur();
    } else if (!typing && keys.checked && Object.hasOwn(press, e.key)) {
      e.preventDefault();
      press[e.key]();
    }
  });

  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = name === "dark" ? "light colours" : "dark colours";
  };
  button.hidden = false;
  button.textContent = dark.matches ? "light colours" : "dark colours";
  button.addEventListener("click", () => {
    theme((document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
  });

  for (const el of all(".js")) el.hidden = false;
  addEventListener("hashchange", go);
  // A page of few rows is opened at once; of many, the first.
  if (!location.hash) {
    for (const row of rows.slice(0, rows.length <= 4 ? rows.length : 0)) row.open = true;
  }
  go();
})();
