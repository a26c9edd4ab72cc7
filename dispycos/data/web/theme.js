/* Before anything is drawn: the theme that this reader chose, so that no white page flashes at night. */
(() => {
  const named = new URLSearchParams(location.search).get('theme');
  let theme = named;
  try {
    theme = named || localStorage.theme;
  } catch {
    /* a private window keeps nothing */
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
