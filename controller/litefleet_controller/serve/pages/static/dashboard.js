// Follows a rollout: on each event the part of the page that moves is fetched again. All else works without JavaScript.
"use strict";
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  if (!live || !live.dataset.live) return;
  let stamp = live.dataset.stamp;
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const response = await fetch(live.dataset.part, { headers: { "X-Stamp": encodeURIComponent(stamp) }, cache: "no-store" });
      if (response.status === 401 || response.redirected) { location.reload(); return; }
      if (response.status === 200) show(await response.text(), response.headers);
    } catch { /* the server is away: the next event or the timer asks again */ } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 500); }
    }
  }

  function show(text, headers) {
    const focused = document.activeElement && live.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : "");
    live.innerHTML = text; // our own server's markup, escaped there; the policy lets no script in it run
    stamp = decodeURIComponent(headers.get("X-Stamp") || "");
    live.dataset.stamp = stamp;
    const sentence = decodeURIComponent(headers.get("X-Said") || "");
    if (said && sentence && said.textContent !== sentence) said.textContent = sentence;
    if (place) { const found = live.querySelector(place); if (found) found.focus({ preventScroll: true }); }
    if (headers.get("X-Over") === "1" && source) { source.close(); clearInterval(timer); }
  }

  let source = null;
  const timer = setInterval(refresh, 15000); // an event may be lost while the connection is made anew
  function follow() {
    source = new EventSource(live.dataset.live);
    source.addEventListener("changed", refresh);
  }
  if ("EventSource" in window) follow();
})();
