"""Checks the token and the prompts of a personalization with the tokenizer only, before training."""

from tadp_ray.backbones.stable_diffusion.learned_tokens import check_new
from tadp_ray.conditioning.text_encoder import count_tokens
from tadp_ray.conditioning.tokenizer import load_tokenizer
from tadp_ray.config.personalization import TOKEN, Personalization
from tadp_ray.config.vocabulary import CAPTION
from tadp_ray.errors import UserError
from tadp_ray.paper.personalization.images import StyleImages
from tadp_ray.paper.personalization.textual_inversion import initial_id, training_prompts


def check(plan: Personalization, images: StyleImages) -> None:
    """Check that the token is new, that the initial word is a single token, and that no prompt is too long.

    Raises:
        UserError: a check fails; the message names the key, its value and the remedy.
    """
    method = plan.method
    tokenizer, budget = load_tokenizer(plan.weights)
    modifiers = {"modifier": plan.modifier, "sample_modifier": plan.sample_modifier}
    texts = {
        (key, modifier.replace(CAPTION, caption))
        for key, modifier in modifiers.items()
        if modifier
        for caption in plan.samples
    }
    if method.kind == "textual_inversion":
        check_new(tokenizer, method.token, "method.token")
        initial_id(tokenizer, method.initializer_token)
        tokenizer.add_tokens(method.token)
        key, prompts, example = "method.prompts", training_prompts(method), f'method.prompts: ["a {TOKEN} photo"]'
    else:
        key, prompts, example = "method.prompt", [method.prompt], "method.prompt: an image in sks style"
        texts |= {("method.prior.prompt", method.prior.prompt)} if method.prior else set()
        if method.prior and CAPTION in method.prior.prompt:
            raise UserError(
                f"method.prior.prompt={method.prior.prompt!r}: {CAPTION} is in it, but the prior's images have no captions; "
                "write it without, e.g. an image"
            )
    if any(CAPTION in prompt for prompt in prompts) and not all(images.captions):
        raise UserError(
            f"{key}={prompts!r}: {CAPTION} is in a prompt, but only images of kind: scenes have captions; write prompts without "
            f"it, e.g. {example}"
        )
    texts |= {(key, prompt.replace(CAPTION, caption)) for prompt in prompts for caption in images.captions}
    where, text = max(sorted(texts), key=lambda pair: count_tokens(tokenizer, pair[1]))
    if (length := count_tokens(tokenizer, text)) > budget:
        raise UserError(
            f"{where}: {text!r} has {length} tokens, of which this model's text encoder reads {budget}: the end would mean "
            "nothing; shorten it"
        )
