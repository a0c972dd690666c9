// Image of a field with sources as ellipses: wheel zooms, dragging moves, a click or an arrow key selects.
const copy = (view, Kind) => new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const SIZE = 520, REACH = 12, NEXT = ["ArrowDown", "ArrowRight", "n"], PREVIOUS = ["ArrowUp", "ArrowLeft", "p"];

function render({ model, el }) {
  const canvas = document.createElement("canvas"), note = document.createElement("div");
  const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
  canvas.className = "fphojax-map";
  canvas.tabIndex = 0;
  canvas.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys
  canvas.width = canvas.height = SIZE * ratio;
  canvas.style.cssText = `width:${SIZE}px;height:${SIZE}px;cursor:crosshair;touch-action:none;outline-offset:2px`;
  note.style.cssText = `width:${SIZE}px;min-height:2.6em;font-size:12px;line-height:1.3;color:var(--jp-ui-font-color1,#222)`;
  el.append(canvas, note);
  const view = { east: 0, north: 0, scale: SIZE / 2 / model.get("half") };
  let shapes, draws, values, rows, listed, low, high, picture = null, drag = null, over = -1;

  const read = () => {
    shapes = copy(model.get("shapes"), Float32Array);
    draws = copy(model.get("draws"), Float32Array);
    values = copy(model.get("values"), Float64Array);
    rows = copy(model.get("rows"), Int32Array);
    listed = new Set(rows);
    const sorted = Float64Array.from(values.filter(Number.isFinite)).sort();
    low = sorted[Math.floor(0.01 * sorted.length)];
    high = sorted[Math.ceil(0.99 * sorted.length) - 1];
  };
  const place = (east, north) => [SIZE / 2 - (east - view.east) * view.scale, SIZE / 2 - (north - view.north) * view.scale];
  const colour = (row) => {
    const value = values[row], palette = new Uint8Array(model.get("palette").buffer, model.get("palette").byteOffset);
    if (!Number.isFinite(value)) return "#bbbbbb";
    const log = low > 0 && high > 30 * low, f = log ? Math.log : (v) => v;
    const i = 3 * Math.max(0, Math.min(255, Math.round((255 * (f(value) - f(low))) / (f(high) - f(low) || 1))));
    return `rgb(${palette[i]},${palette[i + 1]},${palette[i + 2]})`;
  };
  const ellipse = (s, i, least) => {
    const [x, y] = place(s[i], s[i + 1]);
    if (x < -60 || x > SIZE + 60 || y < -60 || y > SIZE + 60) return false;
    const angle = -Math.PI / 2 - (s[i + 4] * Math.PI) / 180; // from north to the left
    pen.beginPath();
    pen.ellipse(x, y, Math.max(s[i + 2] * view.scale, least), Math.max(s[i + 3] * view.scale, least), angle, 0, 2 * Math.PI);
    return true;
  };
  const text = (words, x, y, align = "left", fill = "white") => {
    pen.font = "bold 12px system-ui, sans-serif"; pen.textAlign = align;
    pen.lineWidth = 3; pen.strokeStyle = "rgba(0,0,0,0.75)"; pen.strokeText(words, x, y);
    pen.fillStyle = fill; pen.fillText(words, x, y);
  };

  function draw() {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#30343c"; pen.fillRect(0, 0, SIZE, SIZE);
    const half = model.get("half"), [x0, y0] = place(half, half), side = 2 * half * view.scale;
    pen.imageSmoothingEnabled = false;
    if (picture) pen.drawImage(picture, x0, y0, side, side);
    pen.lineWidth = 1.4;
    for (let row = 0; row < shapes.length / 5; row++) {
      pen.globalAlpha = listed.has(row) ? 1 : 0.15;
      if (ellipse(shapes, 5 * row, 1.5)) { pen.strokeStyle = colour(row); pen.stroke(); }
    }
    pen.globalAlpha = 0.35; pen.lineWidth = 0.8; pen.strokeStyle = "#ffffff";
    for (let i = 0; i < draws.length; i += 5) if (ellipse(draws, i, 1)) pen.stroke();
    pen.globalAlpha = 1;
    const s = 5 * model.get("selected");
    if (ellipse(shapes, s, 4)) {
      const [x, y] = place(shapes[s], shapes[s + 1]), r = Math.max(shapes[s + 2] * view.scale, 4) + 7;
      pen.beginPath(); pen.arc(x, y, r, 0, 2 * Math.PI);
      pen.lineWidth = 4; pen.strokeStyle = "rgba(0,0,0,0.6)"; pen.stroke();
      pen.lineWidth = 2; pen.strokeStyle = "#ff8c42"; pen.stroke();
      text(model.get("ids")[model.get("selected")], x + r + 3, y - r * 0.5, "left", "#ffb27d");
    }
    marks();
    const many = `${rows.length} of ${model.get("ids").length} sources listed`;
    const at = over < 0 ? "" : `; ${model.get("ids")[over]}: ${model.get("label")} = ${values[over].toPrecision(5)}`;
    const range = Number.isFinite(low) ? `${model.get("label")} from ${low.toPrecision(3)} (dark) to ${high.toPrecision(3)} (bright)` : "";
    note.textContent = `${many}; ellipses hold half the light; colour: ${range}${at}`;
  }
  function marks() {
    const size = 0.25 * SIZE / view.scale, power = 10 ** Math.floor(Math.log10(size));
    const length = power * [5, 2, 1].find((k) => k * power <= size), width = length * view.scale;
    for (const [wide, style] of [[5, "rgba(0,0,0,0.75)"], [2, "white"]]) {
      pen.lineWidth = wide; pen.strokeStyle = style; pen.beginPath();
      pen.moveTo(SIZE - 15 - width, SIZE - 15); pen.lineTo(SIZE - 15, SIZE - 15);
      pen.moveTo(45, SIZE - 45); pen.lineTo(45, SIZE - 15); pen.lineTo(15, SIZE - 15); pen.stroke();
    }
    text(`${Number(length.toPrecision(1))}"`, SIZE - 15 - width / 2, SIZE - 22, "center");
    text("N", 45, SIZE - 50, "center"); text("E", 8, SIZE - 11, "center");
    const bands = model.get("bands"), names = bands.length === 1 ? ["grey"] : bands.length === 2 ? ["blue", "red"] : ["blue", "green", "red"];
    const tints = { blue: "#90caff", green: "#9be7a0", red: "#ff8a80", grey: "white" };
    bands.forEach((band, i) => text(`${names[i]}: ${band}`, 10, 20 + 16 * i, "left", tints[names[i]]));
  }
  function nearest(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = Infinity;
    for (const row of rows) {
      const [u, v] = place(shapes[5 * row], shapes[5 * row + 1]), reach = Math.max(REACH, shapes[5 * row + 3] * view.scale);
      const distance = Math.hypot(u - x, v - y) / reach;
      if (distance < 1 && distance < least) { least = distance; best = row; }
    }
    return best;
  }
  function select(row) { model.set("selected", row); model.save_changes(); draw(); }
  function step(by) {
    if (!rows.length) return;
    const at = rows.indexOf(model.get("selected"));
    select(rows[at < 0 ? 0 : (at + by + rows.length) % rows.length]);
  }
  function zoom(factor, x = SIZE / 2, y = SIZE / 2) {
    const east = view.east - (x - SIZE / 2) / view.scale, north = view.north - (y - SIZE / 2) / view.scale;
    view.scale = Math.max(0.3 * SIZE / 2 / model.get("half"), view.scale * factor);
    view.east = east + (x - SIZE / 2) / view.scale; view.north = north + (y - SIZE / 2) / view.scale;
    draw();
  }
  function reset() { Object.assign(view, { east: 0, north: 0, scale: SIZE / 2 / model.get("half") }); draw(); }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-0.0015 * event.deltaY), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { canvas.focus(); canvas.setPointerCapture(event.pointerId); drag = { x: event.clientX, y: event.clientY, moved: false }; });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) { const now = nearest(event); if (now !== over) { over = now; draw(); } return; }
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    view.east += dx / view.scale; view.north += dy / view.scale;
    drag = { x: event.clientX, y: event.clientY, moved: true };
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) { const row = nearest(event); if (row >= 0) select(row); }
    drag = null;
  });
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("keydown", (event) => {
    if (NEXT.includes(event.key)) step(1);
    else if (PREVIOUS.includes(event.key)) step(-1);
    else if (event.key === "+") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") reset();
    else return;
    event.preventDefault(); event.stopPropagation();
  });
  const refresh = () => { read(); draw(); };
  for (const name of ["shapes", "draws", "values", "rows", "label", "ids"]) model.on(`change:${name}`, refresh);
  model.on("change:selected", () => {
    const s = 5 * model.get("selected"), [x, y] = place(shapes[s], shapes[s + 1]);
    if (x < 0 || x > SIZE || y < 0 || y > SIZE) { view.east = shapes[s]; view.north = shapes[s + 1]; }
    draw();
  });
  const load = async () => {
    const bytes = model.get("image");
    picture = bytes.byteLength ? await createImageBitmap(new Blob([bytes], { type: "image/png" })) : null;
    draw();
  };
  model.on("change:image", load);
  model.on("change:bands", () => draw());
  refresh();
  load();
}
export default { render };
