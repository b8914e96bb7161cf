// Buttons that filter the table of tasks on the page of the three families.
// Fills <div id="explorer-families"> and hides rows of <table id="families">; without it the table is whole.
(() => {
  const root = document.getElementById("explorer-families");
  const rows = [...document.querySelectorAll("#families tbody tr")];
  if (!root || !rows.length) return;

  const questions = [
    { ask: "Does it write text?", column: "writes" },
    { ask: "Is there an input that is complete before writing begins?", column: "reads" },
  ];
  const chosen = { writes: "", reads: "" };
  const said = document.createElement("p");
  said.setAttribute("role", "status");

  const show = () => {
    const fits = (row) => questions.every(({ column }) => !chosen[column] || row.dataset[column] === chosen[column]);
    const kept = rows.filter(fits);
    for (const row of rows) row.hidden = !kept.includes(row);
    const families = [...new Set(kept.map((row) => row.dataset.family))];
    said.textContent = `${kept.length} of ${rows.length} tasks: ${families.join(", ") || "no family"}`;
  };

  for (const { ask, column } of questions) {
    const group = document.createElement("div");
    group.className = "explorer-controls";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", ask);
    group.append(ask, " ");
    for (const [text, value] of [["either", ""], ["yes", "yes"], ["no", "no"]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-pressed", String(value === ""));
      button.addEventListener("click", () => {
        chosen[column] = value;
        for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        show();
      });
      group.append(button, " ");
    }
    root.append(group);
  }
  root.append(said);
  show();
})();
