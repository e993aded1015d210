// What happens: selecting, deciding, keys.
function drawTop() {
  byId("title").textContent = `${state.overview.annotator} · ${state.overview.title}`;
  const { progress, agreement, conflicts } = state.overview;
  const bar = byId("meter");
  bar.setAttribute("aria-valuemax", progress.candidates);
  bar.setAttribute("aria-valuenow", progress.decided);
  bar.firstElementChild.style.width = `${progress.candidates ? (100 * progress.decided) / progress.candidates : 0}%`;
  byId("decided").textContent = `${count(progress.decided)} of ${plural(progress.candidates, "domain")}`;
  byId("gained").textContent = `+${plural(progress.pages, "page")}`;
  const button = byId("agreement");
  button.hidden = !agreement.length;
  const kappas = agreement.map((one) => one.kappa).filter((one) => one !== null);
  const worst = kappas.length ? `κ ${decimal(Math.min(...kappas))}` : "Agreement";
  button.textContent = conflicts.length ? `${worst} · ${plural(conflicts.length, "conflict")}` : worst;
  button.classList.toggle("warn", conflicts.length > 0);
}

async function select(domain, prefix) {
  state.selected = { domain, prefix };
  await reveal(domain, prefix);
  const drawn = drawMain();
  drawSidebar();
  await drawn;
}

function take(overview) {
  state.overview = overview;
  drawTop();
}

async function goNext() {
  const next = state.overview.queue[0];
  if (next) return select(...next);
  state.selected = null;
  drawSidebar();
  return drawMain();
}

async function decide(verdict) {
  if (!state.selected) return;
  const { domain, prefix } = state.selected;
  const before = state.overview.progress.pages;
  take(await ask("decide", { domain, prefix, verdict }, "POST"));
  await refresh(domain);
  const more = state.overview.progress.pages - before;
  const added = more ? ` · ${more > 0 ? "+" : "−"}${plural(Math.abs(more), "page")}` : "";
  say(`${VERDICTS[verdict].past} ${address(domain, prefix)}${added} · z takes it back`);
  if (verdict === "split") {
    const child = state.overview.queue.find(([other, path]) => other === domain && (prefix === "/" || path.startsWith(`${prefix}/`)));
    state.open.add(keyOf(domain, prefix));
    if (child) return select(...child);
  }
  await goNext();
}

async function undo() {
  const answer = await ask("undo", {}, "POST");
  take(answer);
  const { undone } = answer;
  if (!undone) return say("There is nothing to take back");
  await refresh(undone.domain);
  say(`Took back: ${undone.verdict} ${address(undone.domain, undone.prefix)}`);
  return select(undone.domain, undone.prefix);
}

/** Bring the list into view around what is selected, folded or unfolded. */
async function fold(open) {
  if (!state.selected) return;
  const { domain, prefix } = state.selected;
  const key = keyOf(domain, prefix);
  if (open || state.open.has(key)) return toggle(domain, prefix, open);
  const above = visibleRows().findLast((row) => row.domain === domain && row.prefix !== prefix && (row.prefix === "/" || prefix.startsWith(`${row.prefix}/`)));
  if (prefix !== "/") await select(domain, above ? above.prefix : "/");
}

function flipTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function nextTab() {
  const names = Object.keys(TABS).filter((name) => name !== "conflicts" || state.overview.agreement.length);
  showTab(names[(names.indexOf(state.tab) + 1) % names.length]);
}

function scrollPages(event) {
  byId("main").scrollBy({ top: (event.shiftKey ? -0.8 : 0.8) * byId("main").clientHeight });
}

const KEYS = {
  a: () => decide("accept"), r: () => decide("reject"), s: () => decide("split"), u: () => decide("unsure"), z: undo,
  j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
  ArrowRight: () => fold(true), l: () => fold(true), ArrowLeft: () => fold(false), h: () => fold(false), Enter: () => fold(true),
  n: goNext, m: () => document.querySelector("#samples .more:not([hidden])")?.click(), " ": scrollPages,
  "/": () => byId("search").focus(), f: nextTab, p: showPreview, t: flipTheme, "?": showHelp,
  g: () => (state.overview.agreement.length ? showAgreement() : say("There is one annotator so far")),
};

const MOVES = new Set(["j", "k", "ArrowDown", "ArrowUp", " "]);

let work = Promise.resolve(); // one thing after the other: keys pressed quickly keep their order
function enqueue(action, event) {
  work = work.then(() => action(event)).catch((error) => say(error.message, true));
  return work;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || state.over || byId("dialog").open) return;
  if (event.target === byId("search")) {
    if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") {
      event.target.blur();
      if (event.key !== "Escape") enqueue(() => step(0));
    }
    return;
  }
  if (event.target.matches("button, a") && (event.key === "Enter" || event.key === " ")) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || !state.overview) return;
  if (event.repeat && !MOVES.has(event.key)) return; // a key held down decides once
  event.preventDefault();
  enqueue(action, event);
}

async function start() {
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.addEventListener("keydown", onKey);
  byId("search").addEventListener("input", (event) => { state.search = event.target.value.trim().toLowerCase(); state.shown = SHOWN; drawSidebar(); });
  byId("preview").addEventListener("click", () => enqueue(showPreview));
  byId("agreement").addEventListener("click", () => showAgreement());
  byId("theme").addEventListener("click", flipTheme);
  byId("help").addEventListener("click", showHelp);
  take(await ask("overview"));
  await goNext();
  document.documentElement.dataset.ready = "yes";
}

enqueue(start);
