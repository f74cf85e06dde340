"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const needs = all("details.need");
  const texts = needs.map((need) => need.textContent.toLowerCase());
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    needs.forEach((need, n) => {
      need.hidden = !words.every((word) => texts[n].includes(word));
      shown += need.hidden ? 0 : 1;
    });
    all(".group").forEach((group) => {
      group.hidden = all("details.need", group).every((need) => need.hidden);
    });
    count.textContent = words.length ? `${shown} of ${needs.length}` : "";
  };
  if (filter) filter.addEventListener("input", apply);
  const open = document.getElementById("open");
  if (open) open.addEventListener("click", () => {
    const some = needs.some((need) => !need.open);
    needs.forEach((need) => { need.open = some; });
    open.textContent = some ? "close all" : "open all";
  });
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });
  const show = () => {
    const target = location.hash.startsWith("#need-") && document.getElementById(location.hash.slice(1));
    if (target) { target.hidden = false; target.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", show);
  show();
  addEventListener("keydown", (event) => {
    if (event.key === "/" && filter && document.activeElement !== filter) { event.preventDefault(); filter.focus(); }
  });
  all("button.copy").forEach((button) => button.addEventListener("click", (event) => {
    event.preventDefault();
    const text = button.closest("details").querySelector("pre").textContent;
    const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1500); };
    if (navigator.clipboard) { navigator.clipboard.writeText(text).then(done, () => {}); return; }
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text; area.select(); document.execCommand("copy"); area.remove(); done();
  }));
  let opened = [];
  addEventListener("beforeprint", () => { opened = all("details:not([open])"); opened.forEach((d) => { d.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((d) => { d.open = false; }); });
})();
