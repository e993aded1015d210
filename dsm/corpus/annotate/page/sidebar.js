// The list on the left: domains by gain, each opening into its paths.
const SHOWN = 400;
const state = {
  overview: null,
  selected: null, // {domain, prefix}
  looks: new Map(), // "domain prefix" -> what the server said about it
  open: new Set(), // those unfolded
  tab: "open",
  search: "",
  shown: SHOWN,
};
const keyOf = (domain, prefix) => `${domain} ${prefix}`;

const TABS = {
  open: { name: "To do", test: (row) => row.open },
  done: { name: "Decided", test: (row) => !row.open },
  conflicts: { name: "Conflicts", test: (row) => row.conflicts > 0 },
  all: { name: "All", test: () => true },
};

function visibleDomains() {
  const { overview, tab, search, selected } = state;
  const inTab = (row) => TABS[tab].test(row) || (tab === "open" && selected && row.domain === selected.domain);
  return overview.domains.filter((row) => inTab(row) && row.domain.includes(search));
}

/** All rows as they stand below each other. */
function visibleRows() {
  const rows = [];
  for (const row of visibleDomains().slice(0, state.shown)) {
    rows.push({ ...row, prefix: "/", label: row.domain, level: 0, kind: "domain", branches: true });
    if (state.open.has(keyOf(row.domain, "/"))) addBranches(rows, row.domain, "/", 1);
  }
  return rows;
}

function addBranches(rows, domain, prefix, level) {
  const look = state.looks.get(keyOf(domain, prefix));
  if (!look) return;
  for (const child of look.children) {
    const known = state.looks.get(keyOf(domain, child.prefix));
    rows.push({ ...child, level, kind: "path", branches: !known || known.children.length > 0 || known.rest.pages > 0 });
    if (state.open.has(keyOf(domain, child.prefix))) addBranches(rows, domain, child.prefix, level + 1);
  }
  if (look.rest.paths) rows.push({ kind: "note", level, text: `and ${plural(look.rest.paths, "smaller path")}, ${plural(look.rest.pages, "page")}` });
}

function drawTabs() {
  const tabs = Object.entries(TABS)
    .filter(([name]) => name !== "conflicts" || state.overview.agreement.length)
    .map(([name, tab]) =>
      h("button", { role: "tab", "aria-selected": String(name === state.tab), onclick: () => showTab(name) },
        tab.name, h("small", {}, count(state.overview.domains.filter(tab.test).length))));
  byId("tabs").replaceChildren(...tabs);
}

function showTab(name) {
  state.tab = name;
  state.shown = SHOWN;
  drawSidebar();
}

function drawSidebar() {
  drawTabs();
  const list = byId("list");
  const top = list.scrollTop;
  const rows = visibleRows().map((row) => (row.kind === "note" ? drawNote(row) : drawRow(row)));
  const hidden = visibleDomains().length - state.shown;
  if (hidden > 0) rows.push(h("button.more", { onclick: () => { state.shown += SHOWN; drawSidebar(); } }, `${count(hidden)} more`));
  if (!rows.length) rows.push(h("div.note", {}, state.tab === "open" ? "Nothing is left to decide." : "None."));
  list.replaceChildren(...rows);
  list.scrollTop = top;
  const picked = list.querySelector('[aria-selected="true"]');
  if (picked) picked.scrollIntoView({ block: "nearest" });
}

function drawNote(row) {
  return h("div.note", { style: { "--level": row.level } }, row.text);
}

function drawRow(row) {
  const key = keyOf(row.domain, row.prefix);
  const selected = state.selected && keyOf(state.selected.domain, state.selected.prefix) === key;
  const decided = row.kind === "domain" ? !row.open : Boolean(row.verdict || finalAbove(row));
  const share = row.pages ? row.collected / row.pages : 0;
  const clash = row.conflicts > 0 || isConflict(row.domain, row.prefix);
  const twist = row.branches
    ? h("button.twist", { tabindex: -1, "aria-label": "unfold", onclick: (event) => { event.stopPropagation(); enqueue(() => toggle(row.domain, row.prefix)); } }, "▶")
    : h("span.twist", {});
  return h(`div.row.${row.kind}${decided ? ".done" : ""}`,
    {
      role: "treeitem", "aria-level": row.level + 1, "aria-selected": String(Boolean(selected)), id: selected ? "picked" : null,
      "aria-expanded": row.branches ? String(state.open.has(key)) : null, style: { "--level": row.level },
      title: `${address(row.domain, row.prefix)}: ${plural(row.pages, "page")}, ${percent(row.collected, row.pages)} collected`,
      onclick: () => enqueue(() => select(row.domain, row.prefix)),
      ondblclick: () => enqueue(() => toggle(row.domain, row.prefix)),
    },
    h("span.name", {}, twist, dot(row.verdict, finalAbove(row)), h("span", {}, row.label), clash ? h("b.clash", { title: "annotators differ" }, "≠") : null),
    h("span.share", {}, meter(share), h("span", {}, `${Math.round(100 * share)} %`)),
    h("span.number", {}, row.gain ? `+${short(row.gain)}` : "0"));
}

/** What a verdict on a shorter path says about this one; a split says nothing. */
function finalAbove(row) {
  return row.inherited === "split" ? null : row.inherited;
}

function isConflict(domain, prefix) {
  return state.overview.conflicts.some((one) => one.domain === domain && one.prefix === prefix);
}

async function lookAt(domain, prefix) {
  const look = await ask("look", { domain, prefix });
  state.looks.set(keyOf(domain, prefix), look);
  return look;
}

async function toggle(domain, prefix, open = !state.open.has(keyOf(domain, prefix))) {
  const key = keyOf(domain, prefix);
  if (open) {
    if (!state.looks.has(key)) await lookAt(domain, prefix);
    state.open.add(key);
  } else state.open.delete(key);
  drawSidebar();
}

/** Ask again about everything that is unfolded in a domain: a verdict changes what its branches inherit. */
async function refresh(domain) {
  const stale = [...state.looks.keys()].filter((key) => key.startsWith(`${domain} `));
  const wanted = stale.filter((key) => state.open.has(key));
  for (const key of stale) state.looks.delete(key);
  await Promise.all(wanted.map((key) => lookAt(domain, key.slice(domain.length + 1))));
}

/** Unfold what lies above a prefix, so that it can be seen. */
async function reveal(domain, prefix) {
  let at = "/";
  while (at !== prefix) {
    const look = state.looks.get(keyOf(domain, at)) || (await lookAt(domain, at));
    const next = look.children.find((child) => prefix === child.prefix || prefix.startsWith(`${child.prefix}/`));
    if (!next) return;
    state.open.add(keyOf(domain, at));
    at = next.prefix;
  }
}

function step(by) {
  const rows = visibleRows().filter((row) => row.kind !== "note");
  const at = rows.findIndex((row) => state.selected && row.domain === state.selected.domain && row.prefix === state.selected.prefix);
  const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  return row ? select(row.domain, row.prefix) : null;
}
