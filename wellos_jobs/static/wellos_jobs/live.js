/* Refreshes the page part marked data-wj-live at the interval the user has selected. It pauses while rows or an
   action are selected, a field has focus, details are open or the tab is hidden. It ends when the answer is not
   this page, as when the session has ended and the login page is answered: the part then stays as it is. */
"use strict";
(function () {
  const KEY = "wellos_jobs.refresh";
  const DEFAULT_SECONDS = "5";

  function stored() {
    try {
      return window.localStorage.getItem(KEY) || DEFAULT_SECONDS;
    } catch (error) { // storage is blocked: the setting lasts as long as the page
      return DEFAULT_SECONDS;
    }
  }

  function store(value) {
    try {
      window.localStorage.setItem(KEY, value);
    } catch (error) { /* see above */ }
  }

  function isBusy(part) {
    const field = document.activeElement;
    return document.hidden
      || part.querySelector("input.action-select:checked, details[open]") !== null
      || Array.from(part.querySelectorAll("select[name=action]")).some((choice) => choice.value !== "")
      || (part.contains(field) && field.matches("input, select, textarea, button, summary"));
  }

  function refresh(part) {
    const url = window.location.pathname + window.location.search;
    const options = { target: part, swap: part.dataset.wjSelect ? "outerHTML" : "innerHTML" };
    if (part.dataset.wjSelect) options.select = part.dataset.wjSelect;
    return window.htmx.ajax("GET", url, options);
  }

  function isThisPage(answer, part) {
    const place = answer.responseURL && new URL(answer.responseURL).pathname;
    if (answer.status === 401 || (place && place !== window.location.pathname)) return false;
    const text = answer.responseText;
    if (!part.dataset.wjSelect) return !/<html[\s>]/i.test(text);
    return new DOMParser().parseFromString(text, "text/html").querySelector(part.dataset.wjSelect) !== null;
  }

  function sayEnded(state) {
    const link = document.createElement("a");
    link.href = window.location.pathname + window.location.search;
    link.textContent = state.dataset.login;
    state.replaceChildren(state.dataset.ended, " ", link);
  }

  function bindActions() {
    const boxes = document.querySelectorAll("tr input.action-select");
    if (boxes.length && window.Actions) window.Actions(boxes);
  }

  function start() {
    const form = document.querySelector("[data-wj-live-switch]");
    if (!form || !window.htmx || !document.querySelector("[data-wj-live]")) return;
    const choice = form.elements.every;
    const state = form.querySelector(".wj-live-state");
    let due = 0;
    let isRefreshing = false;
    let hasEnded = false;

    choice.value = stored();
    if (choice.selectedIndex < 0) choice.value = DEFAULT_SECONDS;
    form.hidden = false;

    form.addEventListener("submit", (event) => event.preventDefault());
    choice.addEventListener("change", () => { store(choice.value); due = 0; choice.blur(); });
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      const part = document.querySelector("[data-wj-live]");
      if (!part || event.detail.target !== part || event.detail.xhr.status >= 402) return;
      if (isThisPage(event.detail.xhr, part)) return;
      event.detail.shouldSwap = event.detail.isError = false;
      hasEnded = true;
      sayEnded(state);
    });
    document.body.addEventListener("htmx:responseError", () => { state.textContent = state.dataset.failed; });
    document.body.addEventListener("htmx:sendError", () => { state.textContent = state.dataset.failed; });
    document.body.addEventListener("htmx:afterSwap", () => { state.textContent = ""; bindActions(); });

    window.setInterval(() => {
      const part = document.querySelector("[data-wj-live]");
      const every = Number(choice.value) * 1000;
      if (!part || !every || isRefreshing || hasEnded) return;
      if (isBusy(part)) { state.textContent = state.dataset.paused; return; }
      if (state.textContent === state.dataset.paused) state.textContent = "";

      due += 250;
      if (due < every) return;
      due = 0;
      isRefreshing = true;
      refresh(part).finally(() => { isRefreshing = false; });
    }, 250);
  }

  document.addEventListener("DOMContentLoaded", start);
}());
