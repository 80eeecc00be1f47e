// An axis of time: where a moment stands, and which moments are written.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
//: Distances of the written moments: those that clocks have.
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
  DAY, 2 * DAY, 7 * DAY, 30 * DAY];
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MILLIS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const DATE = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

export class Axis {
  /** From one moment to another (milliseconds), on so many pixels. */
  constructor(from, to, wide) {
    this.from = from;
    this.to = Math.max(to, from + 1);
    this.wide = wide;
  }

  x(at) {
    return ((at - this.from) / (this.to - this.from)) * this.wide;
  }

  at(x) {
    return this.from + (x / this.wide) * (this.to - this.from);
  }

  /** Return the written moments, each with its words. */
  marks() {
    const least = ((this.to - this.from) * 84) / this.wide;
    const step = STEPS.find((one) => one >= least) ?? 90 * DAY;
    const shift = new Date(this.from).getTimezoneOffset() * MINUTE;
    const found = [];
    for (let at = Math.ceil((this.from - shift) / step) * step + shift; at <= this.to && found.length < 60; at += step) {
      const write = step >= DAY ? DATE : step >= MINUTE ? CLOCK : step >= SECOND ? SECONDS : MILLIS;
      found.push([at, write.format(at)]);
    }
    return found;
  }
}

/** Write a moment as exactly as the window asks for. */
export function clock(at, span) {
  return (span < 20 * SECOND ? MILLIS : SECONDS).format(at);
}
