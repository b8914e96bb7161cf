// The memory of a model's cache: choose a model, or change its sizes, and watch the bytes follow.
// Fills <div id="explorer-cache">; the models are the rows of <table id="cache-models"> beside it.
(() => {
  const root = document.getElementById("explorer-cache");
  const rows = [...document.querySelectorAll("#cache-models tr[data-name]")];
  if (!root || !rows.length) return;

  const GPU = 80e9; // bytes of memory of one H100
  const add = (parent, tag, text = "", attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    parent.appendChild(node);
    return node;
  };

  const form = add(root, "div", "", { class: "explorer-controls" });
  const choose = add(add(form, "label", "model "), "select", "", { "aria-label": "model" });
  for (const row of rows) add(choose, "option", row.dataset.name);
  const field = (name) => {
    const input = add(add(form, "label", `${name} `), "input", "", { type: "number", min: 1, step: 1 });
    input.setAttribute("aria-label", name);
    input.addEventListener("input", () => show());
    return input;
  };
  const names = ["layers", "heads of keys and values", "width of a head", "tokens", "texts at a time"];
  const [layers, heads, width, tokens, texts] = names.map(field);
  const size = add(add(form, "label", "bytes a number "), "select", "", { "aria-label": "bytes a number" });
  for (const bytes of [4, 2, 1]) add(size, "option", String(bytes));
  const result = add(root, "p", "", { "aria-live": "polite", class: "explorer-result" });

  const unit = (bytes) => {
    const units = [[1e15, "PB"], [1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "bytes"]];
    const [scale, name] = units.find(([least]) => bytes >= least) || [1, "bytes"];
    return `${Number((bytes / scale).toPrecision(3))} ${name}`;
  };
  const plain = (number) => number.toLocaleString("en-US");

  function show() {
    const { latent, window: reach } = rows[choose.selectedIndex].dataset;
    const inputs = [layers, heads, width, tokens, texts].filter((input) => !input.disabled);
    if (inputs.some((input) => !(Number.isInteger(input.valueAsNumber) && input.valueAsNumber >= 1))) {
      result.textContent = "Each size is a whole number from 1 on.";
      return;
    }
    const [L, n, B, bytes] = [layers, tokens, texts, size].map((input) => Number(input.value));
    const kept = Number(reach) ? Math.min(n, Number(reach)) : n;
    const numbers = Number(latent) || 2 * heads.value * width.value; // a token and layer
    const total = L * numbers * kept * B * bytes;
    const each = Number(latent) ? [L, numbers] : [2, L, +heads.value, +width.value];
    const factors = [...each, kept, B, bytes].map(plain).join(" · ");
    const cut = kept < n ? ` The window keeps ${plain(kept)} of ${plain(n)} tokens.` : "";
    result.textContent =
      `${factors} = ${unit(total)}, ${Number((total / GPU).toPrecision(2))} of a GPU's 80 GB; ` +
      `${unit(L * numbers * bytes)} a token.${cut}`;
  }

  function load() {
    const model = rows[choose.selectedIndex].dataset;
    layers.value = model.layers;
    for (const [input, value] of [[heads, model.heads], [width, model.width]]) {
      input.disabled = Boolean(Number(model.latent)); // a latent has neither
      input.value = input.disabled ? "" : value;
    }
    tokens.value = model.longest;
    show();
  }

  texts.value = 1;
  size.value = "2";
  choose.addEventListener("change", load);
  size.addEventListener("change", show);
  load();
})();
