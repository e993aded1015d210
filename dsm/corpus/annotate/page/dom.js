// Elements, numbers, and asking the server. Text always goes in as text; HTML comes from our own server alone.
const token = new URLSearchParams(location.search).get("token") || "";

function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [rule, set] of Object.entries(value)) element.style.setProperty(rule, set);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en-US");
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const address = (domain, prefix) => (prefix === "/" ? domain : domain + prefix);

const decimal = (number) => number.toFixed(2).replace("-", "−");

function short(number) {
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (number >= size) return `${(number / size).toFixed(number >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return String(number);
}

function percent(part, whole) {
  const share = whole ? (100 * part) / whole : 0;
  return `${share > 0 && share < 9.95 ? share.toFixed(1) : Math.round(share)} %`;
}

async function ask(path, values = null, method = "GET") {
  const query = method === "GET" && values ? `?${new URLSearchParams(values)}` : "";
  const options = { method, headers: { "X-Token": token }, cache: "no-store" };
  if (method === "POST") options.body = JSON.stringify(values || {});
  let response;
  try {
    response = await fetch(`/api/${path}${query}`, options);
  } catch {
    throw new Error("The server is gone; start it again: dsm stage=annotate …");
  }
  if (response.status === 403) throw new Error("This page's token is of another server; open the address it printed last");
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

let hiding = 0;
function say(text, bad = false) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.className = bad ? "shown bad" : "shown";
  clearTimeout(hiding);
  hiding = setTimeout(() => (toast.className = bad ? "bad" : ""), bad ? 9000 : 2600);
}

const VERDICTS = {
  accept: { key: "a", name: "Accept", past: "Accepted", sign: "✓" },
  reject: { key: "r", name: "Reject", past: "Rejected", sign: "✕" },
  split: { key: "s", name: "Split", past: "Split", sign: "↳" },
  unsure: { key: "u", name: "Unsure", past: "Unsure about", sign: "?" },
};

function dot(verdict, inherited) {
  const shown = verdict || inherited;
  if (!shown) return h("span.dot.none", { "aria-label": "undecided" });
  const label = verdict ? shown : `${shown}, from above`;
  return h(`span.dot.${shown}${verdict ? "" : ".faded"}`, { title: label, "aria-label": label }, VERDICTS[shown].sign);
}

function meter(share) {
  return h("i", {}, h("b", { style: { width: `${Math.round(100 * share)}%` } }));
}
