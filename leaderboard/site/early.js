"use strict";
/* Before the first paint: one panel at a time, and the theme that the reader chose. Where the script that shows a
   panel fails at its start, all are shown. */
document.documentElement.classList.add("tabbed");
addEventListener("error", () => {
  if (!document.documentElement.classList.contains("started")) document.documentElement.classList.remove("tabbed");
});
try {
  const theme = localStorage.getItem("densebench-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  /* No storage for this page: the system's theme it is. */
}
