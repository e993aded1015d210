const items = [...document.querySelectorAll(".item")];
const control = (name) => document.querySelector(`[name=${name}]`);
const names = ["benchmark", "model", "status", "search"];
function filter() {
  const [benchmark, model, status, search] = names.map((name) => control(name).value.toLowerCase());
  let shown = 0;
  for (const item of items) {
    const statuses = item.dataset.status.split(" ");
    const asked = model === "" ? statuses : [statuses[Number(model)]];
    const fits = (benchmark === "" || item.dataset.benchmark.toLowerCase() === benchmark)
      && (status === "" || (status === "differs" ? item.dataset.differs === "1" : asked.includes(status)))
      && (search === "" || item.textContent.toLowerCase().includes(search));
    item.hidden = !fits;
    shown += fits;
  }
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector(".item:not([hidden])");
  }
  document.querySelector("#shown").textContent = `${shown} of ${items.length} shown`;
}
if (items.length) {
  names.forEach((name) => control(name).addEventListener("input", filter));
  document.querySelector(".filters").hidden = false;
  filter();
}
