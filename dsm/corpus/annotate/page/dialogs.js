// What lies over the page: help, what would be added, how annotators agree.
function show(title, lead, body, actions) {
  const dialog = byId("dialog");
  const close = h("button.button", { onclick: () => dialog.close() }, actions.length ? "Go on annotating" : "Close");
  dialog.replaceChildren(h("div.inside", {},
    h("h1", { id: "dialog-title" }, title), lead ? h("p", {}, lead) : null, h("div.scroll", {}, body),
    h("div.actions", {}, actions, close)));
  if (!dialog.open) dialog.showModal();
  close.focus();
}

function showHelp() {
  const keys = [
    ["a", "accept: its pages join the seed"], ["r", "reject"], ["s", "split: decide on its paths one by one"], ["u", "unsure: leave it out for now"],
    ["z", "undo the last verdict"], ["n", "next undecided, by gain"], ["j  k", "next and previous in the list"], ["→  ←", "unfold, fold"],
    ["m", "more pages"], ["space", "scroll the pages"], ["/", "find a domain"], ["f", "to do, decided, conflicts, all"],
    ["p", "preview what is added, finish"], ["g", "agreement of annotators"], ["t", "dark or light"], ["?", "this help"],
  ];
  show("How to annotate",
    "Domains stand in the order of the pages that they would add. Look at pages that were not collected: do they hold mathematics?",
    [
      h("dl.keys", {}, keys.map(([key, what]) => h("div", {}, h("dt", {}, key.split("  ").map((one) => [h("kbd", {}, one), " "])), h("dd", {}, what)))),
      h("p", {}, "The longest path that has a verdict decides: accept a domain and reject its /users, or split it and accept its /questions. Every verdict is saved at once."),
    ], []);
}

async function showPreview() {
  const preview = await ask("preview");
  const people = preview.annotators.length > 1 ? `all annotators (${preview.annotators.join(", ")})` : "you";
  const facts = h("dl.facts", {}, fact("pages join the seed", `+${count(preview.pages)}`, "gain"), fact("tokens", short(preview.tokens)),
    fact("accepted paths", count(preview.list.length)), preview.disputed ? fact("pages left out, disputed", count(preview.disputed), "unsure") : null);
  const rows = preview.list.map((one) => h(`tr${one.pages ? "" : ".faint"}`, {}, h("td", {}, address(one.domain, one.prefix)),
    h("td", {}, one.by.join(", ")), h("td.n", {}, count(one.pages)), h("td.n", {}, short(one.tokens))));
  const table = rows.length
    ? h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Path"), h("th", {}, "Accepted by"), h("th.n", {}, "Pages"), h("th.n", {}, "Tokens"))), h("tbody", {}, rows))
    : h("div.empty", {}, "Nothing is accepted yet.");
  const left = state.overview.progress;
  const open = left.candidates - left.decided ? ` ${plural(left.candidates - left.decided, "domain")} still to do.` : "";
  show("What would be added", `By the verdicts of ${people}, pages that this round did not collect.${open}`, [facts, table], [
    h("button.button", { onclick: () => enqueue(saveCsv) }, "Save as CSV"), h("button.button.main", { onclick: () => enqueue(finish) }, "Finish"),
  ]);
}

async function saveCsv() {
  const { csv } = await ask("csv");
  const file = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  h("a", { href: file, download: "decisions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(file), 5000);
}

async function finish() {
  const { file } = await ask("finish", {}, "POST");
  byId("dialog").close();
  document.body.replaceChildren(h("div.finished", {}, h("div.big", {}, "✓"), h("h1", {}, "Done"),
    h("p", {}, `Your decisions are in ${file}. You can close this page; the same command opens it again.`)));
  state.selected = null;
  state.over = true;
}

function showAgreement() {
  const { agreement, conflicts } = state.overview;
  const pairs = agreement.map((one) => h("tr", {}, h("td", {}, `${one.first} and ${one.second}`), h("td.n", {}, `${count(one.agreed)} of ${count(one.items)}`),
    h("td.n", {}, one.kappa === null ? "–" : decimal(one.kappa))));
  const clashes = conflicts.map((one) => h("tr", {},
    h("td", {}, h("button.link", { onclick: () => { byId("dialog").close(); enqueue(() => select(one.domain, one.prefix)); } }, address(one.domain, one.prefix))),
    h("td", {}, Object.entries(one.verdicts).map(([who, verdict]) => [h(`span.chip.${verdict}`, {}, `${who}: ${verdict}`), " "]))));
  const filter = h("button.button.main", { onclick: () => { byId("dialog").close(); showTab("conflicts"); } }, "Show only conflicts");
  show("Agreement", "Over paths on which both have a final verdict, their own or one from above. Disputed pages stay out of the seed.", [
    h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Annotators"), h("th.n", {}, "Agree"), h("th.n", {}, "Cohen's κ"))), h("tbody", {}, pairs)),
    clashes.length ? h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Conflict"), h("th", {}, "Verdicts"))), h("tbody", {}, clashes)) : null,
  ], clashes.length ? [filter] : []);
}
