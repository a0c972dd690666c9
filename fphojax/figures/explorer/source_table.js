// A table of which only the rows in view are in the page; heads sort, a click or an arrow key selects.
const copy = (view, Kind) => new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const ROW = 22, HEIGHT = 330, WIDTH = 82;

function render({ model, el }) {
  const box = document.createElement("div"), head = document.createElement("div"), body = document.createElement("div");
  box.className = "fphojax-table";
  box.tabIndex = 0;
  box.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys
  box.style.cssText = `height:${HEIGHT}px;max-width:620px;overflow:auto;position:relative;font-size:12px;font-variant-numeric:tabular-nums;border:1px solid var(--jp-border-color2,#ccc);color:var(--jp-ui-font-color1,#222);background:var(--jp-layout-color1,#fff);white-space:nowrap`;
  head.style.cssText = `position:sticky;top:0;z-index:1;height:${ROW}px;line-height:${ROW}px;background:var(--jp-layout-color2,#eee);font-weight:600;cursor:pointer`;
  body.style.cssText = "position:relative";
  box.append(head, body);
  el.append(box);
  let values, rows, names;

  const cell = (words, title = "") => {
    const part = document.createElement("span");
    part.style.cssText = `display:inline-block;width:${WIDTH}px;padding-right:8px;text-align:right;overflow:hidden;text-overflow:ellipsis;vertical-align:top;box-sizing:border-box`;
    part.textContent = words; part.title = title || words;
    return part;
  };
  const format = (name, value) => {
    if (!Number.isFinite(value)) return "";
    if (name === "ra" || name === "dec") return value.toFixed(5);
    if (Number.isInteger(value)) return String(value);
    return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };
  const first = (part, ground) => { // stays in view when the table is moved sideways
    part.style.position = "sticky"; part.style.left = "0"; part.style.background = ground;
    return part;
  };
  function heads() {
    head.replaceChildren(...["id", ...names].map((name) => {
      const mark = name !== model.get("sort") ? "" : model.get("descending") ? " ▼" : " ▲";
      const part = cell(name + mark, `sort by ${name}`);
      part.onclick = () => {
        const again = name === model.get("sort");
        model.set("descending", again ? !model.get("descending") : false);
        model.set("sort", name);
        model.save_changes();
      };
      return part;
    }));
    first(head.firstChild, "var(--jp-layout-color2,#eee)");
    head.style.width = body.style.width = `${WIDTH * (names.length + 1)}px`;
  }
  function draw() {
    body.style.height = `${ROW * rows.length}px`;
    const start = Math.max(0, Math.floor(box.scrollTop / ROW) - 2), n = model.get("ids").length, lines = [];
    for (let at = start; at < Math.min(rows.length, start + HEIGHT / ROW + 5); at++) {
      const row = rows[at], line = document.createElement("div"), chosen = row === model.get("selected");
      line.style.cssText = `position:absolute;top:${ROW * at}px;height:${ROW}px;line-height:${ROW}px;cursor:pointer;width:100%;${chosen ? "background:#ff8c42;color:#000" : ""}`;
      const name = first(cell(model.get("ids")[row]), chosen ? "#ff8c42" : "var(--jp-layout-color1,#fff)");
      line.append(name, ...names.map((name, i) => cell(format(name, values[i * n + row]))));
      line.onclick = () => select(row);
      lines.push(line);
    }
    body.replaceChildren(...lines);
  }
  function select(row) { model.set("selected", row); model.save_changes(); }
  function step(by) {
    const at = rows.indexOf(model.get("selected"));
    if (rows.length) select(rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))]);
  }
  function show() {
    const top = ROW * rows.indexOf(model.get("selected"));
    if (top >= 0 && (top < box.scrollTop || top + 2 * ROW > box.scrollTop + HEIGHT)) box.scrollTop = Math.max(0, top - HEIGHT / 2);
    draw();
  }
  const refresh = () => {
    values = copy(model.get("values"), Float64Array);
    rows = copy(model.get("rows"), Int32Array);
    names = model.get("names");
    heads();
    show();
  };
  box.addEventListener("scroll", draw);
  box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, n: 1, p: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault(); event.stopPropagation();
    step(by);
  });
  for (const name of ["values", "rows", "names", "sort", "descending"]) model.on(`change:${name}`, refresh);
  model.on("change:selected", show);
  refresh();
}
export default { render };
