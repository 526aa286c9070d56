"""The bundled model against published figures, and the client of an embeddings server against a scripted one."""

import asyncio
import hashlib
import math
import tracemalloc

import httpx2
import pytest
from chatbot_common.errors import UpstreamFailed
from chatbot_conversation.embeddings import local
from chatbot_conversation.embeddings.local import LocalEmbedder
from chatbot_conversation.embeddings.minilm import WEIGHTS_SHA256, model_folder
from chatbot_conversation.embeddings.openai_compatible import OpenAICompatibleEmbedder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.serving import serving


def cosine(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


class TestLocal:
    def test_weights_are_the_published_ones(self) -> None:
        digest = hashlib.sha256((model_folder() / "model.safetensors").read_bytes()).hexdigest()

        assert digest == WEIGHTS_SHA256

    async def test_similarities_are_the_published_ones(self) -> None:
        # Figures of the model's own documentation (sbert.net, "Sentence Transformer > Usage").
        sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]

        one, two, three = await LocalEmbedder().embed(sentences)

        assert math.isclose(cosine(one, one), 1, abs_tol=1e-5)
        assert cosine(one, two) == pytest.approx(0.6660, abs=1e-4)
        assert cosine(one, three) == pytest.approx(0.1046, abs=1e-4)
        assert cosine(two, three) == pytest.approx(0.1411, abs=1e-4)

    async def test_batches_keep_order_and_do_not_influence_each_other(self) -> None:
        texts = ["word " * (number % 7 * 9 + 1) + str(number) for number in range(40)] + ["", "x" * 5000]
        embedder = LocalEmbedder()

        together = await embedder.embed(texts)

        for number in (0, 6, 17, 40, 41):
            [alone] = await embedder.embed([texts[number]])
            assert together[number] == pytest.approx(alone, abs=1e-5)
            assert len(alone) == embedder.dimensions

    async def test_who_leaves_takes_nobody_along(self) -> None:
        """Texts that come at the same time go together, and the first to ask may lose patience."""
        embedder = LocalEmbedder()
        asked = [asyncio.create_task(embedder.embed([f"question {number}"])) for number in range(6)]
        await asyncio.sleep(0)
        asked[0].cancel()

        [alone] = await embedder.embed(["question 5"])

        assert (await asked[5])[0] == pytest.approx(alone, abs=1e-5)
        others = await asyncio.gather(*asked[1:])
        assert all(len(vector) == embedder.dimensions for [vector] in others)

    async def test_a_failure_is_told_to_all_who_wait_and_to_nobody_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        embedder = LocalEmbedder()
        with monkeypatch.context() as patched:
            patched.setattr(local, "_model", lambda: None)
            waiting = [asyncio.create_task(embedder.embed(["a text"])) for _ in range(3)]
            assert all(
                isinstance(found, AttributeError) for found in await asyncio.gather(*waiting, return_exceptions=True)
            )

        assert len((await embedder.embed(["a text"]))[0]) == embedder.dimensions

    async def test_fits_into_a_small_pod(self) -> None:
        """NumPy tells tracemalloc what it takes; two calls run at once, beside some 130 MB of the process itself."""
        embedder = LocalEmbedder()
        await embedder.embed(["loaded"])
        longest = [f"passage {number} " + "of many words " * 80 for number in range(8)]
        tracemalloc.start()
        try:
            await embedder.embed(longest)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak < 75_000_000

    async def test_nothing_is_nothing(self) -> None:
        assert await LocalEmbedder().embed([]) == []


class TestOpenAICompatible:
    async def test_keeps_order_over_batches(self) -> None:
        seen: list[dict[str, object]] = []

        async def embed(request: Request) -> Response:
            body = await request.json()
            seen.append(body | {"key": request.headers["authorization"]})
            data = [{"index": index, "embedding": [int(text), 0.5]} for index, text in enumerate(body["input"])]
            return JSONResponse({"data": data[::-1]})

        async with serving(Starlette(routes=[Route("/v1/embeddings", embed, methods=["POST"])])) as url:
            embedder = OpenAICompatibleEmbedder(url + "/v1", "tiny", 2, "k")
            vectors = await embedder.embed([str(number) for number in range(100)])
            await embedder.close()

        assert vectors == [[float(number), 0.5] for number in range(100)]
        assert [len(body["input"]) for body in seen] == [64, 36]  # type: ignore[arg-type]
        assert (seen[0]["model"], seen[0]["key"]) == ("tiny", "Bearer k")

    @pytest.mark.parametrize(
        "answer",
        [
            Response(status_code=401),
            Response("no JSON"),
            JSONResponse({"data": []}),
            JSONResponse({"data": [{"index": 0, "embedding": [1.0]}]}),
            JSONResponse({"data": [{"index": 0, "embedding": "x"}]}),
            JSONResponse({"error": "no"}),
        ],
    )
    async def test_a_bad_answer_is_an_upstream_failure(self, answer: Response) -> None:
        async def embed(_: Request) -> Response:
            return answer

        async with serving(Starlette(routes=[Route("/embeddings", embed, methods=["POST"])])) as url:
            embedder = OpenAICompatibleEmbedder(url, "tiny", 2, None)
            with pytest.raises(UpstreamFailed):
                await embedder.embed(["x"])
            await embedder.close()

    async def test_an_unreachable_server_raises(self) -> None:
        embedder = OpenAICompatibleEmbedder("http://127.0.0.1:1", "tiny", 2, None)
        with pytest.raises(httpx2.TransportError):
            await embedder.embed(["x"])
        await embedder.close()
