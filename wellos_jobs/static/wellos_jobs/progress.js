/* Shows the live progress of jobs: each element with data-wj-job follows its job until it has finished.

   data-wj-events and data-wj-status on the element are the URLs of job-events and job-status. Optional children:
   <progress> shows the percentage, [data-wj-percent] the same as text, [data-wj-state] the state, [data-wj-message] the
   last message of the job, and the link [data-wj-result] appears once there is something to open: data-wj-result-url,
   else the "url" of the result. data-state on the element is for style sheets. Texts come from data-wj-label-<state>,
   -lost and -gone.

   Uses Server-Sent Events, and polls if they are unavailable. The element fires "wellos:job" with each status and
   "wellos:end" with the last one, as event.detail. Elements may be added and removed while the page is open. */
"use strict";
(function () {
  const MOST_STREAMS = 4; // browsers open six connections per host over HTTP/1.1; further elements poll
  const MOST_FAILURES = 3;
  const POLL = 2000;
  const LONGEST_PAUSE = 15000;
  const SILENCE = 10000; // the first event is sent at once, unless a proxy buffers it
  const FINAL = ["completed", "failed", "canceled"];
  const followers = new Map();

  class Follower {
    constructor(root) {
      this.root = root;
      this.source = null;
      this.timer = 0;
      this.pause = POLL;
      this.failures = 0;
      this.isLost = false;
      this.isStopped = false;
      this.job = null;
    }

    start() {
      if (window.EventSource && this.root.dataset.wjEvents && streams() < MOST_STREAMS) this.listen();
      else this.poll();
    }

    stop() {
      if (this.source) this.source.close();
      this.source = null;
      window.clearTimeout(this.timer);
      this.isStopped = true;
    }

    // --- Server-Sent Events

    listen() {
      const source = new EventSource(this.root.dataset.wjEvents);
      this.source = source;
      this.timer = window.setTimeout(() => { if (!this.job) this.unlisten(0); }, SILENCE);
      source.addEventListener("job", (event) => { this.failures = 0; this.show(JSON.parse(event.data)); });
      source.addEventListener("end", () => this.end());
      source.addEventListener("gone", () => this.gone());
      source.addEventListener("poll", (event) => {
        this.pause = JSON.parse(event.data).seconds * 1000;
        this.unlisten(this.pause);
      });
      source.addEventListener("open", () => { this.failures = 0; });
      source.addEventListener("error", () => {
        this.failures += 1;
        if (source.readyState === EventSource.CLOSED || this.failures >= MOST_FAILURES) this.unlisten(0);
      });
    }

    unlisten(pause) {
      if (this.source) this.source.close();
      this.source = null;
      window.clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.poll(), pause);
    }

    // --- polling

    async poll() {
      let pause = this.pause;
      try {
        if (!document.hidden || !this.job) await this.ask();
        this.failures = 0;
        if (this.isLost && !this.isStopped) { // the server is back: try to stream again
          this.isLost = false;
          this.start();
          return;
        }
      } catch (error) {
        this.isLost = true;
        this.failures += 1;
        pause = Math.min(LONGEST_PAUSE, this.pause * 2 ** this.failures);
        this.say(this.root.dataset.wjLabelLost);
      }
      if (!this.isStopped) this.timer = window.setTimeout(() => this.poll(), pause);
    }

    async ask() {
      const options = { credentials: "same-origin", cache: "no-store", headers: { Accept: "application/json" } };
      const response = await fetch(this.root.dataset.wjStatus, options);
      if (this.isStopped) return;
      if (response.status === 404) { this.gone(); return; }
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const job = await response.json();
      if (this.isStopped) return;
      this.show(job);
      if (FINAL.includes(job.state)) this.end();
    }

    // --- display

    show(job) {
      this.job = job;
      this.root.dataset.state = job.state;
      const label = `wjLabel${job.state[0].toUpperCase()}${job.state.slice(1)}`;
      this.write("[data-wj-state]", this.root.dataset[label] || job.state);
      this.write("[data-wj-percent]", `${job.progress} %`);
      this.say(job.state === "failed" ? job.error : job.progress_message);
      const bar = this.root.querySelector("progress");
      if (bar) bar.value = job.progress;
      this.link(job);
      this.fire("wellos:job");
    }

    link(job) {
      const link = this.root.querySelector("[data-wj-result]");
      const url = job.state === "completed" && (this.root.dataset.wjResultUrl || (job.result && job.result.url));
      if (!link || !url) return;
      const target = new URL(url, window.location.href);
      if (!["http:", "https:"].includes(target.protocol)) return;
      link.href = target.href;
      link.hidden = false;
    }

    say(text) { this.write("[data-wj-message]", text || ""); }

    write(selector, text) {
      const element = this.root.querySelector(selector);
      if (element && element.textContent !== text) element.textContent = text;
    }

    end() {
      this.stop();
      this.fire("wellos:end");
    }

    gone() {
      this.say(this.root.dataset.wjLabelGone);
      this.end();
    }

    fire(name) {
      this.root.dispatchEvent(new CustomEvent(name, { detail: this.job, bubbles: true }));
    }
  }

  function streams() {
    return Array.from(followers.values()).filter((follower) => follower.source).length;
  }

  function scan() {
    for (const [root, follower] of followers) {
      if (!root.isConnected) { follower.stop(); followers.delete(root); }
    }
    for (const root of document.querySelectorAll("[data-wj-job]")) {
      if (followers.has(root)) continue;
      followers.set(root, new Follower(root));
      followers.get(root).start();
    }
  }

  if (window.wellosJobsProgress) return; // included twice
  window.wellosJobsProgress = true;
  const hasElements = (nodes) => Array.from(nodes).some((node) => node.nodeType === Node.ELEMENT_NODE);
  new MutationObserver((changes) => {
    if (changes.some((change) => hasElements(change.addedNodes) || hasElements(change.removedNodes))) scan();
  }).observe(document.documentElement, { childList: true, subtree: true });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", scan);
  else scan();
}());
