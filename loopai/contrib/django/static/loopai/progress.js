// Keeps the progress of batch runs up to date while one of them is live, and copies commands. Data comes as HTML that the
// server escaped.
(function () {
  "use strict";

  const EVERY = 2000; // milliseconds
  const AFTER_A_FAULT = 10000;

  function places() {
    return Array.from(document.querySelectorAll("[data-loopai-run]"));
  }

  async function refresh(found) {
    const url = new URL(found[0].dataset.loopaiUrl, window.location.href);
    url.searchParams.set("part", found[0].dataset.loopaiPart);
    for (const place of found) {
      url.searchParams.append("run", place.dataset.loopaiRun);
    }
    const reply = await fetch(url, { credentials: "same-origin", redirect: "error" });
    if (!reply.ok) {
      throw new Error("HTTP " + reply.status);
    }
    const told = await reply.json();
    for (const place of found) {
      const html = told.runs[place.dataset.loopaiRun];
      if (html !== undefined && html !== place.innerHTML) {
        place.innerHTML = html;
      }
    }
    return told.live;
  }

  async function turn() {
    const found = places();
    if (found.length === 0) {
      return;
    }
    let live = true;
    let pause = EVERY;
    if (!document.hidden) {
      try {
        live = await refresh(found);
      } catch (error) {
        pause = AFTER_A_FAULT;
      }
    }
    if (live) {
      window.setTimeout(turn, pause);
    } else if (wasLive) {
      // What may be asked of a run that ended is not what its page offers.
      window.location.reload();
      return;
    }
    wasLive = live;
  }

  // Without JavaScript there is no button: the command can be selected.
  function offerCopies() {
    for (const button of document.querySelectorAll("[data-loopai-copy]")) {
      const code = button.parentElement.querySelector("code");
      button.hidden = false;
      button.addEventListener("click", async function () {
        try {
          await navigator.clipboard.writeText(code.textContent);
          button.textContent = "Copied";
        } catch (error) {
          // Only pages over https may write to the clipboard: then it is selected, for the keyboard.
          window.getSelection().selectAllChildren(code);
        }
      });
    }
  }

  let wasLive = false;
  document.addEventListener("DOMContentLoaded", turn);
  document.addEventListener("DOMContentLoaded", offerCopies);
})();
