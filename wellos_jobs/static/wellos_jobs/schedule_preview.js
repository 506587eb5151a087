/* Shows the next runs of a schedule while the user edits it. Without this script, they are shown after saving. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector("[data-preview-url]");
  const names = ["cron", "time_zone", "organization_id", "starts_at_0", "starts_at_1", "ends_at_0", "ends_at_1"];
  const fields = names.map((name) => document.getElementById(`id_${name}`)).filter(Boolean);
  if (!box || fields.length === 0) {
    return;
  }

  let shown = address();
  let timer = 0;
  let request = new AbortController();

  function address() {
    const url = new URL(box.dataset.previewUrl, window.location.href);
    fields.forEach((field) => url.searchParams.set(field.name, field.value));
    return url.href;
  }

  async function refresh() {
    const wanted = address();
    if (wanted === shown) {
      return;
    }
    shown = wanted;
    request.abort();
    request = new AbortController();
    try {
      // A redirect to the login page must not be shown in the box.
      const response = await fetch(wanted, { redirect: "error", signal: request.signal });
      if (!response.ok) {
        throw new Error(`status ${response.status}`);
      }
      box.innerHTML = await response.text();
      box.classList.remove("wj-stale");
    } catch (error) {
      if (error.name !== "AbortError") {
        box.classList.add("wj-stale");
        shown = ""; // retry on the next event
      }
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, 250);
  }

  // The admin's calendar and clock fill a field without an input event, but then focus it.
  ["input", "change", "focusin"].forEach((event) => document.addEventListener(event, soon));
});
