// What axe-core asks of elements that Material makes while the page is shown.
function label() {
  for (const nav of document.querySelectorAll("nav.md-code__nav")) nav.setAttribute("role", "presentation");
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) box.tabIndex = 0;
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
}
for (const empty of document.querySelectorAll("th:empty")) empty.outerHTML = "<td></td>";
label();
new MutationObserver(label).observe(document.body, { childList: true, subtree: true });
