"""make_tiny.py FOLDER: FOLDER/model, a Qwen2 of 0.8 million random weights with a tokenizer of its
own, and FOLDER/draft, an EAGLE draft model for it.

Two KV heads, so that they split over two ranks; no download.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 2048
CONTEXT = 2048
PAD, BEGIN, END = SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text() -> Iterator[str]:
    """The standard library is text enough."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(folder.glob("[a-e]*.py"))[:80]:
        yield file.read_text(errors="ignore")


def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        text(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 8, special_tokens=SPECIAL, initial_alphabet=alphabet
        ),
    )
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        bos_token=None,
        model_max_length=CONTEXT,
    )
    whole.chat_template = CHAT
    return whole


def model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).to(torch.bfloat16)


def save_draft(target: Qwen2ForCausalLM, folder: Path) -> None:
    """Write SGLang's Qwen2ForCausalLMEagle: one layer of the target's size, behind a projection of
    a token's embedding and the target's hidden state. Nothing of it is trained."""
    config = target.config.to_dict()
    config |= {
        "architectures": ["Qwen2ForCausalLMEagle"],
        "num_hidden_layers": 1,
        "layer_types": config["layer_types"][:1],
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = {
        name.removeprefix("model."): weight.contiguous()
        for name, weight in target.state_dict().items()
        if name.startswith(("model.embed_tokens.", "model.layers.0."))
        and "input_layernorm" not in name
    }
    width = config["hidden_size"]
    torch.manual_seed(1)
    weights["fc.weight"] = (torch.randn(width, 2 * width) / width).to(torch.bfloat16)
    weights["fc.bias"] = torch.zeros(width, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    words, target = tokenizer(), model()
    for name in ("model", "draft"):
        words.save_pretrained(Path(sys.argv[1]) / name)
    target.save_pretrained(Path(sys.argv[1]) / "model", safe_serialization=True)
    save_draft(target, Path(sys.argv[1]) / "draft")
