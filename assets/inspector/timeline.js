// Which moment is shown: the present, or any tick that is kept, standing or going.

import { Failure, TICKS_PER_SECOND, host } from "./host.js";

/** How often the present is asked for, and how long a failure is waited after. */
const LIVE_EVERY = 300;
const AFTER_FAILURE = 1_500;

/** How many pictures are asked for at once, and kept. */
const FRAMES_AT_ONCE = 20;
const FRAMES_KEPT = 600;

/** How many shapes the kept pictures have in all: those of a crowd are large. What lies around the moment is kept all the same. */
const SHAPES_KEPT = 200_000;
const FRAMES_NEEDED = 3 * FRAMES_AT_ONCE;

const shapesOf = (picture) => (picture?.shapes.length ?? 0) + 1;

export class Timeline {
  /** `shown(tick, picture)` is called with each moment that is to be seen; `changed()` when anything else of this did. */
  constructor({ shown, changed, failed }) {
    Object.assign(this, { shown, changed, failed });
    this.leave(null);
    document.addEventListener("visibilitychange", () => this.wake());
    requestAnimationFrame((now) => this.frame(now));
  }

  /** Another room, or none. */
  leave(room) {
    this.room = room;
    this.run = (this.run ?? 0) + 1;
    [this.first, this.last, this.at, this.tick] = [0, 0, 0, null];
    [this.isLive, this.speed, this.way, this.follow] = [true, 1, 0, ""];
    this.frames = new Map();
    [this.asking, this.wanted] = [null, null];
    this.wake();
  }

  wake() {
    clearTimeout(this.timer);
    if (this.room !== null && this.isLive && !document.hidden) this.poll();
  }

  async poll() {
    clearTimeout(this.timer);
    const run = this.run;
    let wait = LIVE_EVERY;
    try {
      const given = await host.read(this.room, "picture", { follow: this.follow });
      if (run !== this.run) return;
      this.take(given);
      const newest = given.frames.at(-1);
      if (this.isLive && newest) {
        this.at = newest.tick;
        this.show(newest.tick, newest.picture);
      }
    } catch (error) {
      wait = AFTER_FAILURE;
      if (run === this.run) this.failed(error);
    } finally {
      // Whatever went wrong, a picture that the page can't draw too: what is live is asked for again.
      if (run === this.run && this.isLive && !document.hidden) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.poll(), wait);
      }
    }
  }

  take({ first, last, frames }) {
    [this.first, this.last] = [first, Math.max(last, first)];
    for (const { tick, picture } of frames) {
      this.frames.delete(tick);
      this.frames.set(tick, picture);
    }
    // What is live is drawn once.
    const most = this.isLive ? 1 : FRAMES_KEPT;
    let shapes = [...this.frames.values()].reduce((sum, picture) => sum + shapesOf(picture), 0);
    while (this.frames.size > most || (this.frames.size > FRAMES_NEEDED && shapes > SHAPES_KEPT)) {
      const [oldest, picture] = this.frames.entries().next().value;
      shapes -= shapesOf(picture);
      this.frames.delete(oldest);
    }
  }

  show(tick, picture) {
    this.tick = tick;
    this.shown(tick, picture);
    this.changed();
  }

  setFollow(id) {
    this.follow = id;
    this.frames.clear();
    this.run += 1;
    this.asking = null;
    if (this.isLive) this.wake();
    else this.seek();
  }

  goLive() {
    [this.isLive, this.way] = [true, 0];
    this.changed();
    this.wake();
  }

  /** The room has gone on while the page stood. */
  reach(last) {
    if (this.isLive || last <= this.last) return;
    this.last = last;
    this.changed();
  }

  /** Stands at a tick. */
  async go(tick) {
    [this.isLive, this.way, this.wanted] = [false, 0, tick];
    clearTimeout(this.timer);
    if (tick > this.last) {
      // What is known of the end is a little old.
      await this.findEnds();
      if (this.wanted !== tick || this.isLive) return;
    }
    this.at = Math.min(Math.max(tick, this.first), this.last);
    this.changed();
    this.seek();
  }

  step(by) {
    this.go(Math.floor(this.at) + by);
  }

  /** Goes on, or stands. */
  toggle() {
    if (this.isLive && this.speed > 0) {
      // From the present it goes on by itself.
      this.go(Math.floor(this.at));
      return;
    }
    if (this.way === 0 && this.at >= this.last && this.speed > 0) {
      this.playOn();
      return;
    }
    this.way = this.way === 0 ? 1 : 0;
    this.isLive = false;
    clearTimeout(this.timer);
    this.changed();
  }

  /** Goes on from the end that is known: the room may have gone on since. From the end of all of it, it begins again. */
  async playOn() {
    const { run, at } = this;
    await this.findEnds();
    if (run !== this.run || this.isLive || this.way !== 0 || this.at !== at) return;
    if (at >= this.last) this.at = this.first;
    this.way = 1;
    this.changed();
  }

  setSpeed(speed) {
    this.speed = speed;
    this.changed();
  }

  /** How many ticks lie between two pictures at this speed: not more than 30 a second are seen anyway. */
  every() {
    return Math.max(1, Math.floor(Math.abs(this.speed) / 1.5));
  }

  /** Shows where it is, as soon as its picture is here. */
  async seek() {
    const tick = Math.floor(this.at);
    if (this.frames.has(tick)) {
      this.show(tick, this.frames.get(tick));
      return;
    }
    // Who asked goes on with where it is then.
    if (this.asking === null) await this.fetch(tick, 1, 1);
  }

  async fetch(tick, ticks, every) {
    const run = this.run;
    const asking = {};
    this.asking = asking;
    try {
      const given = await host.read(this.room, "picture", { tick, ticks, every, follow: this.follow });
      if (run !== this.run) return;
      this.take(given);
      if (this.way === 0 && !this.isLive && Math.floor(this.at) === tick && this.frames.has(tick)) this.show(tick, this.frames.get(tick));
    } catch (error) {
      if (run !== this.run) return;
      this.way = 0;
      if (error instanceof Failure && error.status === 404) await this.findEnds();
      this.failed(error);
      this.changed();
      // What can't be had is not asked for again at once.
      this.tick = Math.floor(this.at);
    } finally {
      if (this.asking === asking) this.asking = null;
      if (run === this.run && this.way === 0 && !this.isLive && Math.floor(this.at) !== this.tick) this.seek();
    }
  }

  /** What was at the beginning may not be kept any more. */
  async findEnds() {
    const run = this.run;
    const ticks = await host.read(this.room, "ticks").catch(() => null);
    if (ticks === null || run !== this.run) return;
    [this.first, this.last] = [ticks.first, ticks.last];
    this.at = Math.min(Math.max(this.at, this.first), this.last);
  }

  frame(now) {
    const passed = Math.min(now - (this.then ?? now), 250) / 1_000;
    this.then = now;
    if (this.way !== 0 && this.room !== null && !document.hidden) this.pass(passed);
    requestAnimationFrame((next) => this.frame(next));
  }

  pass(seconds) {
    const wanted = this.at + seconds * TICKS_PER_SECOND * this.speed;
    const every = this.every();
    const to = Math.min(Math.max(wanted, this.first), this.last);
    const tick = this.nearest(Math.floor(to), every);
    if (tick === null) {
      // Time stands until the pictures are here.
      this.prefetch(Math.floor(this.at), every);
      return;
    }
    this.at = to;
    if (tick !== this.tick) this.show(tick, this.frames.get(tick));
    this.prefetch(Math.floor(to), every);
    if (to >= this.last && this.speed > 0) {
      this.way = 0;
      this.goLive();
    } else if (to <= this.first && this.speed < 0) {
      this.way = 0;
      this.changed();
    }
  }

  /** The tick of the picture to show at a tick, if one is here that is not too old. */
  nearest(tick, every) {
    for (let back = 0; back < every; back += 1) {
      if (this.frames.has(tick - back)) return tick - back;
    }
    return null;
  }

  /** Asks for what comes next, before it is wanted. */
  prefetch(tick, every) {
    if (this.asking !== null) return;
    const span = FRAMES_AT_ONCE * every;
    if (this.speed > 0) {
      const end = Math.min(tick + span, this.last + 1);
      let ahead = tick;
      while (ahead < end) {
        const here = this.nearest(ahead, every);
        if (here === null) {
          this.fetch(ahead, FRAMES_AT_ONCE, every);
          return;
        }
        // What is here need not lie where it is looked: by what it is good for it is gone on, or a gap would be stepped over and never filled.
        ahead = here + every;
      }
    } else {
      for (let back = tick; back > Math.max(tick - span, this.first - 1); back -= every) {
        if (this.nearest(back, every) === null) {
          this.fetch(Math.max(back - span + every, this.first), FRAMES_AT_ONCE, every);
          return;
        }
      }
    }
  }
}
