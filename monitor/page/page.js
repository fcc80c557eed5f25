// The page in the browser: times in the reader's zone, updates that keep focus, scroll and open parts, an address that
// follows the reader's choices, and the texts of charts. The only state here is the address and the theme.
(() => {
  const SEARCH_PAUSE_MS = 150;
  const AGES_EVERY_MS = 5_000;
  const COUNT_EVERY_MS = 1_000;
  // The service gives a sign of life every 3 seconds (`elements.PULSE_S`).
  const LOST_AFTER_MS = 10_000;
  const THEMES = ["auto", "light", "dark"];

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

  const two = (number) => String(number).padStart(2, "0");
  const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

  const utcClock = (at) => `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  const isUtc = (at) => at.getTimezoneOffset() === 0;
  const sameDay = (one, other) => one.toDateString() === other.toDateString();

  function timeText(at, form) {
    if (form === "age") return ageText(at);
    const withDay = form === "day" || !sameDay(at, new Date());
    const before = form === "date" ? `${date.format(at)} ` : withDay ? `${day.format(at)} ` : "";
    const local = before + clock.format(at);
    return isUtc(at) ? `${local} UTC` : `${local} (${utcClock(at)} UTC)`;
  }

  function ageText(at) {
    const minutes = Math.floor((Date.now() - at) / 60_000);
    if (minutes < 1) return "just now";
    if (minutes < 100) return `${minutes} min ago`;
    return minutes < 2_880 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1_440)} days ago`;
  }

  function localise(root) {
    for (const element of root.querySelectorAll("time")) {
      const at = new Date(element.dateTime);
      element.textContent = timeText(at, element.dataset.form);
      element.title = at.toISOString().replace("T", " ").replace(/:\d\d\.\d+Z/, " UTC");
    }
    for (const element of root.querySelectorAll("[data-zone]")) {
      const now = new Date();
      element.textContent = isUtc(now) ? `${utcClock(now)} UTC` : `${clock.format(now)} ${zone}, ${utcClock(now)} UTC`;
    }
    for (const element of root.querySelectorAll("[data-printed]")) {
      element.textContent = `${location.href}, ${timeText(new Date(), "date")}`;
    }
  }

  // What each input was filled with: an hour that the clocks repeat has two moments, and its text does not say which.
  const filled = new WeakMap();

  // What the server says counts from the moment at which it came; the browser counts on by itself.
  const counted = new WeakMap();
  let heardAt = Date.now();

  function durationText(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 100) return `${whole} s`;
    const minutes = Math.round(whole / 60);
    return minutes < 100 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
  }

  function countAges() {
    const isLost = !document.hidden && Date.now() - heardAt > LOST_AFTER_MS;
    for (const element of document.querySelectorAll("[data-age]")) {
      const { age, stale, moment } = element.dataset;
      let from = counted.get(element);
      if (from?.moment !== moment) {
        from = { moment, bornAt: Date.now() - 1_000 * age };
        counted.set(element, from);
      }
      const seconds = (Date.now() - from.bornAt) / 1_000;
      element.textContent = `${durationText(seconds)} ago`;
      const light = element.parentElement.querySelector(".light");
      if (light && (isLost || seconds > Number(stale))) light.className = "light bad";
    }
    for (const notice of document.querySelectorAll("[data-lost]")) {
      if (notice.hidden === !isLost) continue;
      notice.hidden = !isLost;
      const words = `Nothing was heard from it since ${timeText(new Date(heardAt), "time")}.`;
      notice.querySelector("[data-lost-words]").textContent = words;
    }
  }

  function heard() {
    heardAt = Date.now();
    countAges();
  }

  function fillInputs(root) {
    for (const input of root.querySelectorAll("input[data-utc]")) {
      if (!input.value || !input.closest("details")?.open) {
        const at = new Date(input.dataset.utc);
        input.value = new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
        filled.set(input, { text: input.value, at });
      }
      tellUtc(input);
    }
  }

  function momentOf(input) {
    const first = filled.get(input);
    return first?.text === input.value ? first.at : new Date(input.value);
  }

  function tellUtc(input) {
    const at = momentOf(input);
    const output = input.closest("label").nextElementSibling;
    const text = isNaN(at) || isUtc(at) ? "" : `(${utcClock(at)} UTC)`;
    if (output.textContent !== text) output.textContent = text;
  }

  // In a group of links only the chosen one, or the first, is reached by Tab; arrow keys move among them.
  function rove(root) {
    for (const group of root.querySelectorAll("[data-rove]")) {
      const links = [...group.querySelectorAll("a")];
      const stop = links.find((link) => link.hasAttribute("aria-current")) ?? links[0];
      for (const link of links) link.tabIndex = link === stop ? 0 : -1;
    }
  }

  const ARROWS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

  function moveFocus(event) {
    const step = ARROWS[event.key];
    const group = event.target.closest("[data-rove]");
    if (!step || !group || event.ctrlKey || event.metaKey || event.altKey) return;
    const links = [...group.querySelectorAll("a")];
    const next = links[links.indexOf(event.target) + step];
    event.preventDefault();
    next?.focus();
  }

  // Says what has changed among the parts that matter, to those who hear the page.
  let said;

  function say() {
    const parts = [...document.querySelectorAll(".monitor [data-say]")];
    const now = parts.map((part) => `${part.dataset.say} ${part.textContent}.`.trim());
    const live = document.querySelector("[data-live]");
    const news = now.filter((text) => said && !said.includes(text));
    if (live && news.length) live.textContent = news.join(" ");
    if (now.length) said = now;
  }

  // Makes `mine` like `next`, node by node, so that unchanged parts stay the same nodes, with focus and scroll.
  function morph(mine, next) {
    for (const { name, value } of next.attributes) {
      if (mine.getAttribute(name) !== value && !isReaders(mine, name)) mine.setAttribute(name, value);
    }
    for (const { name } of [...mine.attributes]) {
      if (!next.hasAttribute(name) && !isReaders(mine, name)) mine.removeAttribute(name);
    }
    morphChildren(mine, next);
  }

  function morphChildren(mine, next) {
    const old = [...mine.childNodes];
    const fresh = [...next.childNodes];
    fresh.forEach((node, i) => {
      const same = old[i]?.nodeType === node.nodeType && old[i].nodeName === node.nodeName;
      if (!old[i]) mine.append(node);
      else if (!same) old[i].replaceWith(node);
      else if (node.nodeType === Node.ELEMENT_NODE) morph(old[i], node);
      else if (old[i].data !== node.data) old[i].data = node.data;
    });
    old.slice(fresh.length).forEach((node) => node.remove());
  }

  const isReaders = (element, name) => element.localName === "details" && name === "open";

  function show(element, content) {
    const next = document.createElement("template");
    next.innerHTML = content;
    localise(next.content);
    rove(next.content);
    morphChildren(element, next.content);
    fillInputs(element);
  }

  function go(href, replaces = false) {
    history[replaces ? "replaceState" : "pushState"](null, "", href);
    move();
  }

  function move() {
    document.documentElement.dataset.busy = "";
    window.dispatchEvent(new Event("monitor:moved"));
  }

  // The present address with some parameters set (to nothing: left out), and some pairs put in or taken out.
  function changed(sets, toggles = []) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of sets) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    for (const [name, value] of toggles) {
      const values = query.getAll(name);
      query.delete(name);
      const next = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
      next.forEach((one) => query.append(name, one));
    }
    return location.pathname + (query.size ? `?${query}` : "");
  }

  function target(link) {
    const { set, toggle } = link.dataset;
    if (set === undefined && toggle === undefined) return link.getAttribute("href");
    return changed(new URLSearchParams(set ?? ""), new URLSearchParams(toggle ?? ""));
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-local]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(target(link));
    const search = document.querySelector("input[data-param]");
    if (search) search.value = new URLSearchParams(location.search).get(search.dataset.param) ?? "";
  });

  let pause;
  document.addEventListener("input", (event) => {
    if (event.target.matches("input[data-utc]")) tellUtc(event.target);
    const name = event.target.dataset?.param;
    if (!name) return;
    clearTimeout(pause);
    pause = setTimeout(() => go(changed([[name, event.target.value.trim()]]), true), SEARCH_PAUSE_MS);
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-params]")) return;
    event.preventDefault();
    const inputs = [...event.target.querySelectorAll("input[name]")];
    const given = inputs.map((input) => [input.name, `${momentOf(input).toISOString().slice(0, 16)}Z`]);
    go(changed([...given, ["last", ""]]));
  });

  document.addEventListener("keydown", moveFocus);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea")) return;
    const search = document.querySelector("input[data-param]");
    if (!search) return;
    event.preventDefault();
    search.focus();
  });

  window.addEventListener("popstate", () => {
    document.documentElement.dataset.busy = "";
    const search = document.querySelector("input[data-param]");
    if (search) search.value = new URLSearchParams(location.search).get(search.dataset.param) ?? "";
  });

  const theme = () => (THEMES.includes(localStorage.theme) ? localStorage.theme : "auto");
  const applyTheme = () => (document.documentElement.dataset.theme = theme());
  const nameTheme = () =>
    document.querySelectorAll("[data-theme-button]").forEach((b) => (b.textContent = `Theme: ${theme()}`));
  applyTheme();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-button]")) return;
    localStorage.theme = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    applyTheme();
    nameTheme();
  });

  // On paper a chart is as wide as the page.
  window.addEventListener("beforeprint", () => {
    for (const svg of document.querySelectorAll(".plot svg")) {
      const { width, height } = svg.getBoundingClientRect();
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const svg of document.querySelectorAll(".plot svg")) svg.removeAttribute("viewBox");
  });

  document.addEventListener("DOMContentLoaded", () => localise(document));
  setInterval(() => localise(document), AGES_EVERY_MS);
  setInterval(countAges, COUNT_EVERY_MS);
  document.addEventListener("visibilitychange", heard);

  const share = (value) => {
    const percent = 100 * value;
    return `${percent.toFixed(percent >= 10 ? 1 : percent >= 0.1 || percent === 0 ? 2 : 3)} %`;
  };
  const signed = (value) => (Number(value) > 0 ? `+${Number(value)}` : `${Number(value)}`.replace("-", "−"));
  const points = (value) => `${signed((100 * value).toFixed(2))} pp`;
  const evidence = (ln) => (ln < 11 ? Number(Math.exp(ln).toPrecision(2)).toLocaleString("en-US") : `10^${(ln / Math.LN10).toFixed(1)}`);
  const count = (value) => Number(value).toLocaleString("en-US");
  const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

  // The class of a variation's dot, as in the legend.
  const shapeOf = (name) =>
    [...document.querySelectorAll(".legend [data-name]")].find((dot) => dot.dataset.name === name)?.className ?? "dot";

  // ECharts' symbols, of which some are drawn along a line.
  const SYMBOLS = {
    circle: "circle",
    square: "rect",
    triangle: "triangle",
    diamond: "diamond",
    down: "path://M0,0L10,0L5,10Z",
    plus: "path://M3,0H7V3H10V7H7V10H3V7H0V3H3Z",
  };

  function tip(parameters, text) {
    const rows = new Map();
    for (const { seriesName, data, color } of parameters) {
      if (data && !rows.has(seriesName)) rows.set(seriesName, { data, color, shape: shapeOf(seriesName) });
    }
    if (!rows.size) return "";
    const at = new Date([...rows.values()][0].data[0]);
    const isProvisional = [...rows.values()].some(({ data }) => data[4]);
    const lines = [...rows].map(
      ([name, { data, color, shape }]) =>
        `<tr><td><span class="${shape}" style="background:${color}"></span> ${escape(name)}</td>${text(data)}</tr>`,
    );
    const local = `${day.format(at)} ${clock.format(at)}`;
    const utc = isUtc(at) ? " UTC" : ` (${utcClock(at)} UTC)`;
    return `<b>${local}</b>${utc}${isProvisional ? ", provisional" : ""}<table class="tip">${lines.join("")}</table>`;
  }

  window.monitorPage = {
    show,
    move,
    heard,
    arrived() {
      heard();
      delete document.documentElement.dataset.busy;
      localise(document);
      nameTheme();
      say();
    },
    began: ({ name, value }) => `${name}, ${clock.format(new Date(value))}`,
    mark: (shape, every, shift) => (_, { dataIndex }) => (dataIndex % every === shift ? SYMBOLS[shape] : "none"),
    axisPower: (value) => (value < 0 ? `1/${10 ** -value}` : count(10 ** value)),
    axisPoints: (value) => `${signed((100 * value).toPrecision(2))} pp`,
    tipEvidence: (parameters) =>
      tip(
        parameters.filter(({ data }) => data?.length === 3),
        ([, , ln]) => `<td>E ${evidence(ln)}</td>`,
      ),
    tipDifference: (parameters) =>
      tip(
        parameters.filter(({ data }) => data?.length === 4),
        ([, value, low, high]) =>
          `<td>${points(value)}</td><td>${points(low)} to ${points(high)}</td>`,
      ),
    axisRate: (value) => `${Number((100 * value).toPrecision(3))} %`,
    axisCount: (value) => count(value),
    tipRate: (parameters) =>
      tip(
        parameters,
        ([, rate, visits, base]) =>
          `<td>${rate === null ? "–" : share(rate)}</td><td>${count(visits)} of ${count(base)} visits</td>`,
      ),
    tipCount: (parameters) => tip(parameters, ([, value]) => `<td>${count(value)} visits</td>`),
  };
})();
