// Buttons that copy a key. Without JavaScript they are not shown, and a click chooses the whole key.

const says = document.getElementById("live-says");

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only a page from a secure address may write there: choose the text, so that the keyboard copies it.
    getSelection().selectAllChildren(button.previousElementSibling);
    return;
  }
  const before = button.textContent;
  button.textContent = button.dataset.copied;
  if (says) says.textContent = `${button.dataset.copied}: ${text}`;
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.documentElement.classList.add("scripted");
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
