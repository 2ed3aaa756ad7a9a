"""Tokenisation: any fast tokenizer, and a vocabulary of our own for models trained from scratch."""

import re
from functools import cached_property

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from xtalgen.models.language.prompts import ask_crystal, phrases
from xtalgen.structure.elements import SYMBOLS

PAD, END, UNKNOWN = "[PAD]", "[END]", "[UNKNOWN]"
LARGEST_NUMBER = 230  # space groups; angles are smaller


class Vocabulary:
    """A tokenizer with its end token and its padding token, which differ."""

    def __init__(self, tokenizer: Tokenizer, end: int, pad: int) -> None:
        """Raises ValueError if the tokenizer merges the end of a prompt with the beginning of its answer."""
        self.tokenizer, self.end, self.pad = tokenizer, end, pad
        prompt, answer = ask_crystal({}), "5.0 5.0"
        if self.encode(prompt + answer)[: len(self.encode(prompt))] != self.encode(prompt):
            raise ValueError("the tokenizer merges the end of a prompt with its answer. Choose another base.")

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, with the tokens that begin every text but without the end token."""
        return self.tokenizer.encode(text).ids

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Returns the tokens of each text, see `encode`."""
        return [output.ids for output in self.tokenizer.encode_batch(texts)]

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text of each token; "" for tokens without text, such as the end token."""
        # Tokens are decoded after another one, since some tokenizers drop a space at the beginning of a text.
        before = self.tokenizer.encode("0", add_special_tokens=False).ids
        known = len(self.tokenizer.decode(before, skip_special_tokens=False))
        special = {token for token, added in self.tokenizer.get_added_tokens_decoder().items() if added.special}
        output = self.tokenizer.decode_batch(
            [[*before, token] for token in range(len(self))], skip_special_tokens=False
        )
        hidden = {*special, self.end, self.pad, self.tokenizer.token_to_id(UNKNOWN)}
        return tuple("" if token in hidden else text[known:] for token, text in enumerate(output))

    def decode(self, tokens: list[int]) -> str:
        """Returns the text of an answer's tokens."""
        return "".join(self.pieces[token] for token in tokens)


def own_vocabulary() -> Vocabulary:
    """Returns the vocabulary of models trained from scratch: phrases of prompts, elements, numbers, characters.

    Coordinates and integers are single tokens, also with a space before them, so that an atom takes six tokens. The
    vocabulary does not depend on the data.
    """
    coordinates = [f"0.{hundredth:02d}" for hundredth in range(100)]
    integers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    tenths = [f".{digit}" for digit in range(10)]
    # "0.25" and " 0.25" are different tokens, so a space needs no token of its own.
    numbers = [space + word for word in [*coordinates, *integers] for space in ("", " ")]
    words = [*phrases(), *SYMBOLS, *numbers, *tenths, " ", "\n", ".", "-"]
    ids = {word: index for index, word in enumerate(dict.fromkeys([PAD, END, UNKNOWN, *words]))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern()), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return Vocabulary(tokenizer, end=ids[END], pad=ids[PAD])


def read_vocabulary(text: str) -> Vocabulary:
    """Returns the vocabulary stored as JSON in a checkpoint of a model trained from scratch."""
    tokenizer = Tokenizer.from_str(text)
    places = tokenizer.get_vocab()
    return Vocabulary(tokenizer, end=places[END], pad=places[PAD])


def _pattern() -> str:
    # Alternatives are tried in order: "Co" before "C", 100 before 10.
    longest_first = sorted(SYMBOLS, key=lambda symbol: (-len(symbol), symbol))
    integers = "|".join(str(number) for number in range(LARGEST_NUMBER, -1, -1))
    return "|".join(
        [
            *map(re.escape, phrases()),
            r" ?0\.\d\d(?!\d)",
            *longest_first,
            rf" ?(?:{integers})(?!\d)",
            r"\.\d(?!\d)",
            r"[\s\S]",
        ]
    )
