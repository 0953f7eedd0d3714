"use strict";
/* Before the first paint: one panel at a time, and the theme that the reader chose. */
document.documentElement.classList.add("tabbed");
try {
  const theme = localStorage.getItem("densebench-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  /* No storage for this page: the system's theme it is. */
}
