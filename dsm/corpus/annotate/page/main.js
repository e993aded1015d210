// The right side: what is selected, its counts and scores, the verdict, and pages to look at.
let drawing = 0;
const seen = new Map(); // samples that were fetched; they never change

function samplesOf(domain, prefix, collected, start) {
  const values = { domain, prefix, collected: collected ? "1" : "0", start };
  const key = JSON.stringify(values);
  if (!seen.has(key)) {
    if (seen.size > 60) seen.delete(seen.keys().next().value);
    const asked = ask("samples", values);
    asked.catch(() => seen.delete(key));
    seen.set(key, asked);
  }
  return seen.get(key);
}

async function drawMain() {
  const mine = ++drawing;
  if (!state.selected) return byId("main").replaceChildren(drawFinished());
  const { domain, prefix } = state.selected;
  const [look, missed, collected] = await Promise.all([
    lookAt(domain, prefix), samplesOf(domain, prefix, false, 0), samplesOf(domain, prefix, true, 0),
  ]);
  if (mine !== drawing) return null; // something else has been selected meanwhile
  const main = byId("main");
  main.replaceChildren(
    drawHead(look),
    h(`div.samples${missed.total && collected.total ? "" : ".one"}`, { id: "samples" },
      missed.total ? drawColumn(look, "Not collected", collected.total ? "what accepting would add" : "none of its pages is collected", false, missed) : null,
      collected.total ? drawColumn(look, "Collected already", missed.total ? "" : "all of its pages are", true, collected) : null));
  main.scrollTop = 0;
  for (const [nextDomain, nextPrefix] of state.overview.queue.slice(0, 2)) {
    samplesOf(nextDomain, nextPrefix, false, 0).catch(() => null);
    samplesOf(nextDomain, nextPrefix, true, 0).catch(() => null);
  }
  return null;
}

function drawHead(look) {
  return h("div.head", {},
    h("div.summary", {},
      h("div", {}, drawCrumbs(look), h("dl.facts", {},
        fact("would be gained", `+${count(look.gain)}`, "gain"), fact("pages", count(look.pages)),
        fact("collected", percent(look.collected, look.pages)), fact("tokens to gain", short(look.tokens_gained)))),
      drawHistogram(look.histogram)),
    drawVerdicts(look));
}

function fact(name, value, kind = "") {
  return h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));
}

function drawCrumbs({ domain, prefix }) {
  const parts = prefix === "/" ? [] : prefix.slice(1).split("/");
  const crumbs = [[domain, "/"], ...parts.map((part, at) => [part, `/${parts.slice(0, at + 1).join("/")}`])];
  return h("h1.crumbs", {}, crumbs.flatMap(([name, target], at) => {
    const last = at === crumbs.length - 1;
    const piece = last ? h("span", {}, name) : h("button", { onclick: () => enqueue(() => select(domain, target)) }, name);
    return at ? [h("i", {}, "/"), piece] : [piece];
  }));
}

function drawHistogram({ missed, collected }) {
  const bins = missed.length;
  const top = Math.max(1, ...missed.map((number, at) => number + collected[at]));
  const height = (number) => 50 * Math.sqrt(number / top); // the square root keeps small bins in sight
  const bars = [];
  for (let at = 0; at < bins; at += 1) {
    const total = missed[at] + collected[at];
    if (!total) continue;
    const tall = Math.max(1.5, height(total));
    const upper = (tall * collected[at]) / total;
    const place = { x: at * 10 + 0.8, width: 8.4, rx: 1 };
    bars.push(svg("g", {},
      svg("title", {}, `score ${(at / bins).toFixed(2)} to ${((at + 1) / bins).toFixed(2)}: ${count(missed[at])} not collected, ${count(collected[at])} collected`),
      svg("rect", { ...place, class: "missed", y: 52 - tall + upper, height: Math.max(0, tall - upper) }),
      svg("rect", { ...place, class: "collected", y: 52 - tall, height: upper })));
  }
  const base = svg("line", { class: "base", x1: 0, x2: bins * 10, y1: 52.5, y2: 52.5 });
  const chart = svg("svg", { viewBox: `0 0 ${bins * 10} 54`, preserveAspectRatio: "none", role: "img", "aria-label": "pages by score" }, base, ...bars);
  return h("div.chart", {}, chart,
    h("div.axis", {}, h("span", {}, "0"),
      h("span", {}, h("span.key", {}, "not collected"), h("span.key.collected", {}, "collected"), "by score"), h("span", {}, "1")));
}

function drawVerdicts(look) {
  const buttons = Object.entries(VERDICTS).map(([name, verdict]) =>
    h(`button.verdict.${name}`, { "aria-pressed": String(look.verdict === name), onclick: () => enqueue(() => decide(name)) },
      verdict.name, h("kbd", {}, verdict.key)));
  const said = [];
  if (finalAbove(look)) said.push(h(`span.chip.${look.inherited}`, {}, `${look.inherited} from above`));
  for (const [who, verdict] of Object.entries(look.others)) said.push(h(`span.chip.${verdict}`, {}, `${who}: ${verdict}`));
  return h("div.verdicts", {}, buttons, h("button.quiet", { onclick: () => enqueue(undo) }, "Undo", h("kbd", {}, "z")), h("div.said", {}, said));
}

function drawColumn(look, name, hint, collected, first) {
  const cards = h("div.cards", { "data-next": first.pages.length }, first.pages.map((page) => drawPage(page, look.prefix)));
  const more = h("button.more", { hidden: first.pages.length >= first.total, onclick: () => enqueue(() => moreOf(more, cards, look, collected)) },
    "More pages", collected ? null : h("span.faint", {}, "  m"));
  return h("section", { "aria-label": name }, h("h2", {}, name, h("span.faint", {}, count(first.total)), h("span.faint", {}, hint)), cards, more);
}

async function moreOf(button, cards, look, collected) {
  const start = Number(cards.dataset.next);
  const next = await samplesOf(look.domain, look.prefix, collected, start);
  cards.append(...next.pages.map((page) => drawPage(page, look.prefix)));
  cards.dataset.next = start + next.pages.length;
  button.hidden = start + next.pages.length >= next.total || !next.pages.length;
}

function drawPage(page, prefix) {
  const text = h("div.text", { lang: page.language === "zh" ? "zh" : null });
  text.innerHTML = page.html; // made by dsm/corpus/annotate/render.py, which escapes every character of the page
  const all = h("button.link", { onclick: () => enqueue(async () => {
    const whole = await ask("text", { row: page.row });
    text.innerHTML = whole.html;
    all.parentElement.replaceChildren(...(whole.more ? [h("span.faint", {}, `${count(whole.more)} more characters`)] : []));
  }) }, `Show ${plural(page.more, "more character")}`);
  const web = /^https?:\/\//.test(page.url) ? page.url : `http://${page.url}`;
  const below = prefix === "/" ? page.path : page.path.slice(prefix.length) || "/";
  const facts = [page.formulas ? plural(page.formulas, "formula") : null, `${short(page.tokens)} tokens`, page.language === "en" ? null : page.language];
  return h("article.page", {},
    h("header", {},
      h("a", { href: web, target: "_blank", rel: "noopener noreferrer", title: `${page.url} (opens the live page)` }, below),
      h("span", {}, facts.filter(Boolean).join(" · ")),
      page.score === null ? null : h("span.score", { title: "the classifier's score" }, meter(page.score), page.score.toFixed(2))),
    text, page.more > 0 ? h("footer", {}, all) : null);
}

function drawFinished() {
  const { progress } = state.overview;
  return h("div.finished", {},
    h("div.big", { "aria-hidden": "true" }, "✓"),
    h("h1", {}, "Everything is decided"),
    h("p", {}, `Your verdicts add ${plural(progress.pages, "page")} (${short(progress.tokens)} tokens) to the seed. Look at what they add, then finish; or pick a domain on the left to think again.`),
    h("button.button.main", { onclick: () => enqueue(showPreview) }, "Preview and finish"));
}
