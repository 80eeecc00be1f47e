// Rows of one kind, in order, however many: they stand in blocks, and a block out of sight is neither laid out nor painted.
// They are all there nonetheless, for the browser's own search and for those who have pages read to them.

import { h } from "./dom.js";

//: Rows of a block: of a thousand rows the browser then looks at some dozens of elements in each frame.
const FULL = 30;

export class Group {
  constructor(id, name) {
    this.id = id;
    this.rows = [];
    this.blocks = new Set();
    this.count = h("span", { class: "n" });
    this.list = h("div", { class: "rows" });
    this.element = h("section", { class: `group ${id}`, hidden: true, "aria-labelledby": `group-${id}` },
      h("h2", { id: `group-${id}` }, name, " ", this.count), this.list);
  }

  /** Put a row where it belongs: the greatest `began` first. */
  add(row) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].began >= row.began) low = middle + 1;
      else high = middle;
    }
    const before = this.rows[low - 1];
    this.rows.splice(low, 0, row);
    let block = before?.block ?? this.rows[1]?.block;
    if (!block) this.list.append(block = this.block());
    if (before) before.element.after(row.element);
    else block.prepend(row.element);
    row.block = block;
    if (block.childElementCount > FULL) this.split(block);
    else size(block);
  }

  remove(row) {
    this.rows.splice(this.rows.indexOf(row), 1);
    row.element.remove();
    if (row.block.childElementCount) size(row.block);
    else {
      this.blocks.delete(row.block);
      row.block.remove();
    }
    row.block = null;
  }

  block() {
    const block = h("div", { class: "block" });
    this.blocks.add(block);
    block.addEventListener("contentvisibilityautostatechange", (event) => {
      if (event.skipped) this.blocks.delete(block);
      else if (this.blocks.add(block)) this.tick(Date.now());
    });
    return block;
  }

  // The newer half stays: rows come at the front, and it fills again.
  split(block) {
    const rest = this.block();
    const moved = [...block.children].slice(FULL / 2);
    rest.append(...moved);
    for (const element of moved) element.row.block = rest;
    block.after(rest);
    size(block);
    size(rest);
  }

  /** Let time go on in the rows that are in sight. */
  tick(at) {
    for (const block of this.blocks) for (const element of block.children) element.row.tick(at);
  }
}

function size(block) {
  block.style.setProperty("--rows", String(block.childElementCount));
}
