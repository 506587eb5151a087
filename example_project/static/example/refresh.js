/* Keeps parts of a page fresh. Without this script the pages work, and show what was so when they were loaded.

   <section data-refresh="/url">   is replaced by what the URL answers, until that has no data-refresh any more; with
                                   data-reload-at-end the page is then loaded again.
   <div data-preview="/url" data-form="id">   shows what the URL answers to what is in the form so far.
   <div data-until-end>   goes when the job that the page follows has ended. */
"use strict";

const EVERY = 1000; // milliseconds
const LATER = 5000; // after an answer that did not come

async function ask(url, signal) {
  // A login page that we are sent to must not land in the middle of this one.
  const response = await fetch(url, { redirect: "error", signal, headers: { Accept: "text/html" } });
  if (!response.ok) {
    throw new Error(`status ${response.status}`);
  }
  const box = document.createElement("template");
  box.innerHTML = await response.text();
  return box.content;
}

function keepFresh(part) {
  async function refresh() {
    let wait = EVERY;
    if (!document.hidden && !part.contains(document.activeElement)) {
      try {
        const fresh = (await ask(part.dataset.refresh)).firstElementChild;
        const reload = "reloadAtEnd" in part.dataset && !fresh.dataset.refresh;
        part.replaceWith(fresh);
        part = fresh;
        if (reload) {
          window.location.reload();
        }
      } catch {
        wait = LATER;
      }
    }
    if (part.dataset.refresh) {
      setTimeout(refresh, wait);
    }
  }
  setTimeout(refresh, EVERY);
}

function preview(box) {
  const form = document.getElementById(box.dataset.form);
  let asking = new AbortController();
  let timer = 0;

  async function refresh() {
    const values = new URLSearchParams(new FormData(form));
    values.delete("csrfmiddlewaretoken");
    asking.abort();
    asking = new AbortController();
    try {
      box.replaceChildren(await ask(`${box.dataset.preview}?${values}`, asking.signal));
      box.classList.remove("stale");
    } catch (error) {
      box.classList.toggle("stale", error.name !== "AbortError");
    }
  }

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 250);
  });
}

document.querySelectorAll("[data-refresh]").forEach(keepFresh);
document.querySelectorAll("[data-preview]").forEach(preview);
document.addEventListener("wellos:end", () => {
  document.querySelectorAll("[data-until-end]").forEach((part) => part.remove());
});
