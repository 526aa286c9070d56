"""The command line leaves out the documents the worker leaves out; else `chatbot up` would wait for one in vain."""

from pathlib import Path

from chatbot_cli.knowledge import MAX_BYTES, left_out, markdown_files
from chatbot_conversation.knowledge.seeds import read_documents


def test_both_take_the_same_documents(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (tmp_path / "outside.md").write_text("# Outside")
    (folder / "link.md").symlink_to(tmp_path / "outside.md")
    (folder / "inside.md").symlink_to(folder / "good.md")
    contents = {
        "good.md": b"# Good",
        "deep/also.MARKDOWN": b"Good",
        "nul.md": b"\0# Nul",
        "empty.md": b"",
        "blank.md": b" \n\0",
        "binary.md": b"\x89PNG\xff",
        "exact.md": b"x" * MAX_BYTES,
        "large.md": b"x" * (MAX_BYTES + 1),
        "notes.txt": b"Notes",
        ".git/hidden.md": b"Hidden",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    documents = markdown_files(folder)
    bad = left_out(folder, documents)
    taken = {path.relative_to(folder).as_posix() for path in documents if path not in bad}
    assert taken == {seed.path for seed in read_documents(folder)}
    assert {path.name: reason for path, reason in bad.items()} == {
        "link.md": "a link out of the folder",
        "empty.md": "empty",
        "blank.md": "empty",
        "binary.md": "not UTF-8 text",
        "large.md": f"larger than {MAX_BYTES} bytes",
    }
