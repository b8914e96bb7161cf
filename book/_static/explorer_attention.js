// Four steps of attention by hand: move a number, watch scores, weights and the sum follow.
// Fills <div id="explorer-attention">; the numbers are those of the page's first example.
(() => {
  const root = document.getElementById("explorer-attention");
  if (!root) return;

  const words = ["the", "cat", "sat", "on", "the", "mat"];
  const keys = [[0, 0, 0, 1], [2, 0, 0, 0], [0, 0, 2, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 2, 0, 0]];
  const values = [[0, 0], [10, 0], [0, 0], [0, 5], [0, 0], [0, 10]];
  const query = [2, 2, 0, 0];
  const MAT = 5;

  const controls = [
    { label: "sat looks for someone who acts", get: () => query[0], set: (x) => { query[0] = x; } },
    { label: "sat looks for a place", get: () => query[1], set: (x) => { query[1] = x; } },
    { label: "mat is a place", get: () => keys[MAT][1], set: (x) => { keys[MAT][1] = x; } },
  ];

  const add = (parent, tag, text = "", attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    parent.appendChild(node);
    return node;
  };

  const form = add(root, "div", "", { class: "explorer-controls" });
  for (const control of controls) {
    const label = add(form, "label", `${control.label}: `);
    const shown = add(label, "span", String(control.get()), { "aria-hidden": "true" });
    const start = { type: "range", min: -4, max: 4, step: 1, value: control.get() };
    const slider = add(label, "input", "", start);
    slider.setAttribute("aria-label", control.label);
    slider.addEventListener("input", () => {
      control.set(Number(slider.value));
      shown.textContent = slider.value;
      draw();
    });
  }
  const option = add(form, "label", "", { class: "explorer-option" });
  const scaled = add(option, "input", "", { type: "checkbox", checked: "" });
  option.append(" divide by √4");
  scaled.addEventListener("change", () => draw());

  const table = add(root, "table");
  const head = add(add(table, "thead"), "tr");
  const [, scoreHead] = ["word", "score", "weight"].map((name) => add(head, "th", name, { scope: "col" }));
  const body = add(table, "tbody");
  const rows = words.map((word) => {
    const row = add(body, "tr");
    add(row, "th", word, { scope: "row" });
    const score = add(row, "td");
    const cell = add(row, "td");
    const bar = add(cell, "span", "", { class: "explorer-bar", "aria-hidden": "true" });
    return { score, bar, weight: add(cell, "span") };
  });
  const result = add(root, "p", "", { "aria-live": "polite", class: "explorer-result" });

  function draw() {
    const dot = (key) => key.reduce((sum, k, i) => sum + k * query[i], 0);
    const scores = keys.map((key) => dot(key) / (scaled.checked ? 2 : 1));
    const most = Math.max(...scores); // softmax sees differences only, and exp of a large one overflows
    const powers = scores.map((score) => Math.exp(score - most));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const weights = powers.map((power) => power / total);
    scoreHead.textContent = scaled.checked ? "score / √4" : "score";
    rows.forEach((row, i) => {
      row.score.textContent = scores[i].toFixed(1).replace("-", "−");
      row.weight.textContent = weights[i].toFixed(2);
      row.bar.style.width = `${(7 * weights[i]).toFixed(3)}rem`;
    });
    const sum = [0, 1].map((i) => weights.reduce((s, w, j) => s + w * values[j][i], 0));
    result.textContent =
      `sat gets ${sum[0].toFixed(2)} of animal and ${sum[1].toFixed(2)} of thing to sit on.`;
  }

  draw();
})();
