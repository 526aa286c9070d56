/** Where one reads: at the bottom, which is followed while an answer grows, or further up, which is left alone. */

const by = (id) => document.getElementById(id);
const scroller = by("scroller");
let following = true;

export function prepare() {
  by("to-bottom").addEventListener("click", () => toBottom(true));
  scroller.addEventListener("scroll", () => {
    following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
    by("to-bottom").hidden = following;
  });
  new ResizeObserver(() => toBottom()).observe(by("messages"));
}

export function toBottom(force = false) {
  following ||= force;
  if (following) requestAnimationFrame(() => { scroller.scrollTop = scroller.scrollHeight; });
}

/** Let `change` put something before what one is reading, which stays where it is. */
export function keepPlace(change) {
  const height = scroller.scrollHeight;
  change();
  scroller.scrollTop += scroller.scrollHeight - height;
}
