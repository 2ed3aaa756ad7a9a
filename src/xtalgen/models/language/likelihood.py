"""The likelihood of given answers to a prompt."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xtalgen.models.language.language_model import LanguageModel


@torch.inference_mode()
def score_answers(model: LanguageModel, prompt: str, answers: Sequence[str]) -> Float[Tensor, " answers"]:
    """Returns the log-likelihood of each whole answer, end token included, so that "C" does not gain from "Ca".

    The prompt is evaluated once for all answers.
    """
    vocabulary = model.vocabulary
    device = next(model.network.parameters()).device
    asked = vocabulary.encode(prompt)
    # Answers are tokenised behind the prompt, as in training; a prompt's own tokens do not change (`Vocabulary`).
    ends = [[*vocabulary.encode(prompt + answer)[len(asked) :], vocabulary.end] for answer in answers]
    width = max(len(tokens) for tokens in ends)
    given = torch.tensor([[*tokens, *[vocabulary.pad] * (width - len(tokens))] for tokens in ends], device=device)
    mask = torch.tensor([[True] * len(tokens) + [False] * (width - len(tokens)) for tokens in ends], device=device)
    read = model.network(input_ids=torch.tensor([asked], device=device), use_cache=True, logits_to_keep=1)
    # log p(answer | prompt) = Σ_t log p(token_t | prompt, earlier tokens); the prompt's last score predicts the first.
    first = read.logits[:, -1:].float().expand(len(answers), -1, -1)
    cache = read.past_key_values
    # The prompt's keys and values are shared by all answers.
    cache.batch_repeat_interleave(len(answers))
    positions = (len(asked) + torch.arange(width, device=device)).expand(len(answers), -1)
    rest = model.network(input_ids=given, position_ids=positions, past_key_values=cache, use_cache=True).logits.float()
    # (answers, width, vocabulary), aligned with the tokens that they predict
    scores = torch.cat([first, rest[:, :-1]], dim=1).log_softmax(-1)
    picked = scores.gather(-1, given.unsqueeze(-1)).squeeze(-1)
    return (picked * mask).sum(-1)
