"use strict";
/* Runs the scripts of a page as a browser would, on a document of only what they ask for, opens every row, and prints
   what a reader sees: `node open_page.js PAGE HASH`. */
const fs = require("node:fs");
const vm = require("node:vm");

const html = fs.readFileSync(process.argv[2], "utf8");
const scripts = Array.from(html.matchAll(/<script(?: type="application\/json" id="data")?>([\s\S]*?)<\/script>/g), (match) => match[1]);
const [early, data, page] = scripts;
const unescape = (text) => text.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(code)).replace(/&quot;/g, '"').replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
const attribute = (name) => Array.from(html.matchAll(new RegExp(`${name}="([^"]*)"`, "g")), (match) => unescape(match[1]));

class Classes extends Set {
  remove(name) { this.delete(name); }
  contains(name) { return this.has(name); }
  toggle(name, on) { on ? this.add(name) : this.delete(name); }
}
class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], attributes: {}, dataset: {}, listeners: {}, classList: new Classes(), value: "", cells: [] });
  }
  set className(names) { for (const name of names.split(" ")) this.classList.add(name); }
  append(...nodes) { this.children.push(...nodes); }
  after(node) { this.opened = node; }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  addEventListener(name, action) { this.listeners[name] = action; }
  scrollIntoView() {}
  closest(selector) { return selector === "tr" ? this.row : this.panel; }
  get text() { return this.children.map((child) => (child instanceof Element ? child.text : String(child))).join("|"); }
  find(test) { return this.children.flatMap((child) => (child instanceof Element ? [...(test(child) ? [child] : []), ...child.find(test)] : [])); }
}

const root = new Element("html");
const panels = Array.from(html.matchAll(/<section class="panel" id="([^"]*)"/g), (match) => Object.assign(new Element("section"), { id: unescape(match[1]) }));
const tabs = panels.map((panel) => Object.assign(new Element("a"), { hash: `#${panel.id}` }));
const sids = attribute("data-sid");
const gids = attribute("data-gid");
const buttons = sids.map((sid, i) => Object.assign(new Element("button"), { dataset: { sid, gid: gids[i] }, row: Object.assign(new Element("tr"), { dataset: { text: sid }, panel: panels[0] }) }));
const named = { data: Object.assign(new Element("script"), { textContent: data }), theme: new Element("button"), search: new Element("input"), count: new Element("span") };
const lists = { "[role=tab]": tabs, ".panel": panels, "tbody tr": buttons.map((button) => button.row), ".open": buttons, ".sort": [] };
const failures = [];
let failed = null;
const world = {
  document: {
    documentElement: root,
    createElement: (tag) => new Element(tag),
    getElementById: (id) => named[id],
    querySelector: () => new Element("div"),
    querySelectorAll: (selector) => lists[selector] ?? failures.push(`no ${selector}`),
  },
  localStorage: { getItem: () => null },
  matchMedia: () => ({ matches: false }),
  location: { hash: process.argv[3] },
  history: { replaceState() {} },
  addEventListener: (name, action) => { if (name === "error") failed = action; },
};
vm.createContext(world);
for (const source of [early, process.argv[4] === "broken" ? "null.fails;" : page]) {
  try {
    vm.runInContext(source, world);
  } catch (error) {
    failures.push(String(error));
    failed?.();
  }
}
for (const button of buttons) {
  try {
    button.listeners.click?.();
  } catch (error) {
    failures.push(`${button.dataset.sid}: ${error}`);
  }
}
const opened = buttons.filter((button) => button.row.opened).map((button) => button.row.opened);
const regions = opened.flatMap((row) => row.find((element) => element.classList.contains("scroll")));
console.log(JSON.stringify({
  failures,
  shown: panels.filter((panel) => panel.classList.contains("shown")).map((panel) => panel.id),
  tabbed: root.classList.contains("tabbed"),
  opened: opened.map((row) => row.text),
  regions: regions.map((region) => [region.tabIndex, region.attributes.role, region.attributes["aria-label"]]),
}));
