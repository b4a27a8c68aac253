"use strict";
// The page can be read without this. It unpacks what has pictures when it is looked at, walks the steps, and keeps the
// place in the address: #cell=quiz2/ipv4/off/1&step=3&theme=dark. All markup was made and escaped by rpmig.
(() => {
  const all = (sel, within = document) => [...within.querySelectorAll(sel)];

  // unpack returns what is drawn of a row's cells, in a template: nothing of it is laid out before it is looked at.
  const unpacked = new WeakMap();
  const unpack = (row) => {
    if (!unpacked.has(row)) {
      unpacked.set(row, (async () => {
        const packed = Uint8Array.from(atob(row.querySelector(":scope > script").textContent), (c) => c.charCodeAt(0));
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
        const parts = document.createElement("template");
        parts.innerHTML = await new Response(stream).text();
        return parts.content;
      })());
    }
    return unpacked.get(row);
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

  const visible = (details) => Promise.all(all(".cell", details).filter((c) => {
    for (let d = c.closest("details"); d; d = d.parentElement.closest("details")) if (!d.open) return false;
    return true;
  }).map(fill));

  // toggle does not bubble; capturing sees it, on the way down.
  document.addEventListener("toggle", (e) => e.target.open && visible(e.target), true);

  const go = async () => {
    let hash = location.hash.slice(1);
    try { hash = decodeURIComponent(hash); } catch { /* as it is */ }
    const [place, ...rest] = hash.split("&");
    for (const option of rest.concat(place)) {
      if (/^theme=(light|dark)$/.test(option)) theme(option.slice(6));
    }
    const target = place && document.getElementById(place);
    if (!target) return;
    for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    await visible(target.closest("details") ?? target);
    const step = rest.find((o) => /^step=\d+$/.test(o));
    if (step && target.matches(".cell")) walk(target, Number(step.slice(5)) - 1);
    target.scrollIntoView();
    if (target.matches(".cell")) target.focus({ preventScroll: true });
  };

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
    const rows = all("details.row");
    for (const row of rows.slice(0, rows.length <= 4 ? rows.length : 0)) row.open = true;
  }
  go();
})();
