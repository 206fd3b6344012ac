"""A bundle that runs in this process, through the engine of the server, without HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Literal, Self

from offramp.answers import Answer
from offramp.bundle.manifest import Manifest, OperatingPoint, read_manifest
from offramp.errors import OfframpError
from offramp.evaluation.evaluator import Evaluator
from offramp.evaluation.results import Evaluation
from offramp.hub import local_bundle
from offramp.in_process.answer_builder import AnswerBuilder
from offramp.in_process.arguments import read_arguments
from offramp.in_process.outcomes import Answered
from offramp.in_process.runner import Runner
from offramp.in_process.settings import settings_from
from offramp.inputs.datasets import read_examples
from offramp.inputs.images import ImageSource, each_image
from offramp.inputs.query import Query
from serving.http.query import ParsedQuery
from serving.settings import Settings


class Classifier:
    """Classifies images with a bundle, in this process.

        with Classifier.open("bundles/mine") as classifier:
            answers = classifier.classify(["cat.jpg"], budget="low")

    An image is a path, the bytes of an image file, a Pillow image, or RGB pixels as
    an array, uint8 [H, W, 3]. Methods can be called from several threads.

    Args:
        manifest: The manifest of the bundle.
        settings: Settings of the engine.
    """

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self.manifest = manifest
        self._runner = Runner(settings, manifest)
        self._builder = AnswerBuilder(manifest)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        provider: Literal["cpu", "cuda"] = "cpu",
        device: int = 0,
        layout: Literal["native", "portable"] = "native",
        threads: int | None = None,
        max_batch: int | None = None,
        slots: int = 256,
        max_pixels: int = 25_000_000,
    ) -> Self:
        """Load a bundle and warm it up. No environment variable is read.

        Args:
            bundle: Folder of the bundle, or `hf://org/name` on the Hugging Face hub.
            provider: Execution provider of the stages.
            device: Number of the CUDA device.
            layout: Memory layout of the features between stages on a CPU.
            threads: Batches run, and images decoded, at the same time. `None`: one per core.
            max_batch: Largest batch. `None`: 64 on a GPU, 16 on a CPU, and there fewer for networks
                of which such a batch keeps a stage busy for more than 40 ms.
            slots: Images in the engine at the same time.
            max_pixels: Most pixels of one image.

        Raises:
            BundleError: The bundle is missing, damaged, or of another format.
            HubError: The bundle is on the hub, and cannot be downloaded.
            ProviderError: The provider is not available.
            ParameterError: An option is out of range.
        """
        place = {"bundle": local_bundle(Path(bundle)), "provider": provider, "device": device}
        limits = {"threads": threads, "max_batch": max_batch, "slots": slots}
        settings = settings_from(**place, **limits, layout=layout, max_pixels=max_pixels)
        return cls(read_manifest(settings.folder), settings)

    @property
    def curve(self) -> tuple[OperatingPoint, ...]:
        """The operating points that numeric budgets select from, in order of mean flops."""
        return self.manifest.curve

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        budget: str | None = None,
        *,
        min_confidence: float | None = None,
        deadline_ms: float | None = None,
        top_k: int = 5,
        explain: bool = False,
        reject: bool = False,
        promise: str | None = None,
    ) -> list[Answer]:
        """Classify one image or many.

        Args:
            images: One image, or many. An array [N, H, W, 3] is N images.
            budget: Name of a budget, mean flops (`120M`), a share of full depth (`40%`), or mean
                milliseconds of compute on this machine (`8ms`).
                `None`: the default budget of the bundle, unless `min_confidence` is given.
            min_confidence: Confidence at which an image leaves, in [0, 1], instead of a budget.
            deadline_ms: Milliseconds from this call to the answer of each image.
            top_k: Classes to list.
            explain: Add the prediction of each exit on the way.
            reject: Add whether the picture shows no class of the model, if the model can tell.
            promise: Certified promise: a share of answers that agree with full depth (`99%`, or
                `exit:98%` at each exit), of harm (`harm:1%`), or of lost accuracy (`accuracy:1%`).
                The cheapest point that holds it is used, within a given budget.

        Returns:
            One answer for each image, in their order.

        Raises:
            InvalidRequestError: An argument or an image is not valid. Its subclass tells which.
            UnreadableFileError: A path cannot be read.
            DeadlineError: The deadline passed before the first exit.
            StageError: A stage failed.
            NotReadyError: The classifier is closed.
        """
        query = Query(budget, min_confidence, deadline_ms, top_k, explain, reject, promise)
        return self._answers(each_image(images), self._checked(query))

    def classify_iter(
        self,
        images: Iterable[ImageSource],
        budget: str | None = None,
        *,
        min_confidence: float | None = None,
        deadline_ms: float | None = None,
        top_k: int = 5,
        explain: bool = False,
        reject: bool = False,
        promise: str | None = None,
    ) -> Iterator[Answer | OfframpError]:
        """Classify a stream of images of any length in bounded memory.

        Arguments and errors are as for `classify`, with two differences. A deadline counts from
        the decoding of each image. An image that fails yields its error instead of raising it.

        Yields:
            For each image, in their order, its answer or its error.
        """
        query = Query(budget, min_confidence, deadline_ms, top_k, explain, reject, promise)
        return self._answers_or_errors(iter(images), self._checked(query))

    def evaluate(
        self, dataset: str | Path, budgets: Sequence[str] | None = None, *, strict: bool = False
    ) -> Evaluation:
        """Measure accuracy, flops and exits of budgets on labelled images.

        Each image runs to the last exit once, and all budgets are computed from that.

        Args:
            dataset: A folder with one folder of images per class, a table (CSV, JSON Lines) or
                parquet file, or a folder of parquet files. Labels are matched by name.
            budgets: Budgets as for `classify`, but not in milliseconds, and without promises.
                `None`: those of the manifest.
            strict: Refuse a data set in which a file is left out.

        Returns:
            The measured values with their intervals, beside those of the manifest.

        Raises:
            DatasetError: No images, no labels, or labels that the model does not have.
            UnknownBudgetError: A budget that is neither a name nor a number.
            BudgetTooLowError: A numeric budget below the cheapest operating point.
            ParameterError: A budget that is the name of a promise.
            EvaluationError: No image can be decoded.
        """
        evaluator = Evaluator(self.manifest, budgets)
        examples = read_examples(Path(dataset), self.manifest.labels, strict=strict)
        waiting: deque[tuple[str, int]] = deque()

        def sources() -> Iterator[ImageSource]:
            for example in examples:
                waiting.append((example.name, example.label))
                yield example.image

        for outcome in self._runner.stream(sources(), evaluator.policy, None):
            name, label = waiting.popleft()
            if isinstance(outcome, OfframpError):
                evaluator.skip(name, str(outcome))
            else:
                evaluator.add(outcome.answer, label)
        return replace(evaluator.evaluation(examples.split), left_out=examples.left_out)

    def close(self) -> None:
        """Wait for the images in the engine, then stop its threads. A second call does nothing."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, query: Query) -> ParsedQuery:
        return read_arguments(self.manifest, self._runner.milliseconds, query)

    def _answers(self, images: Iterator[ImageSource], asked: ParsedQuery) -> list[Answer]:
        answers: list[Answer] = []
        for outcome in self._runner.stream(images, asked.policy, perf_counter()):
            if isinstance(outcome, OfframpError):
                raise type(outcome)(f"image {len(answers) + 1}: {outcome}") from outcome
            answers.append(self._answer(outcome, asked))
        return answers

    def _answer(self, outcome: Answered, asked: ParsedQuery) -> Answer:
        return self._builder.build(outcome.answer, asked.query, outcome.decode)

    def _answers_or_errors(
        self, images: Iterator[ImageSource], asked: ParsedQuery
    ) -> Iterator[Answer | OfframpError]:
        for outcome in self._runner.stream(images, asked.policy):
            if isinstance(outcome, OfframpError):
                yield outcome
            else:
                yield self._answer(outcome, asked)
