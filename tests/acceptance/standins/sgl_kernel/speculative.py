"""The CPU kernels of speculative decoding and of the attention that it requires, in torch.

SGLang 0.5.23 speculates on CPUs with one attention backend, intel_amx, whose kernels are only in
sglang-kernel. Drafts here are chains (--speculative-eagle-topk 1); a tree is refused.
"""

from __future__ import annotations

from ctypes import memmove, string_at
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


def build_tree_kernel_efficient_cpu(
    _parents: Any,
    _selected: Any,
    seq_lens: Any,
    tree_mask: Any,
    positions: Any,
    retrieve_index: Any,
    retrieve_next_token: Any,
    retrieve_next_sibling: Any,
    topk: int,
    _depth: int,
    draft_token_num: int,
    *_: object,
) -> None:
    """Write a chain's positions and links: each token follows and sees those before."""
    if topk != 1:
        raise NotImplementedError("sgl_kernel's stand-in drafts chains: --speculative-eagle-topk 1")
    width = torch.arange(draft_token_num)
    positions.copy_((seq_lens.view(-1, 1) + width).flatten())
    retrieve_index.copy_(torch.arange(retrieve_index.numel()).view_as(retrieve_index))
    retrieve_next_token.copy_(torch.where(width + 1 < draft_token_num, width + 1, -1))
    retrieve_next_sibling.fill_(-1)
    square = torch.ones(draft_token_num, draft_token_num).tril().bool()
    tree_mask.view(-1, draft_token_num, draft_token_num).copy_(square)


def verify_tree_greedy_cpu(
    *,
    predicts: Any,
    accept_index: Any,
    accept_token_num: Any,
    candidates: Any,
    retrive_index: Any,
    target_predict: Any,
    **_: object,
) -> None:
    """Accept each request's drafts up to the first that is not what the target would have said."""
    for i, drafts in enumerate(candidates):
        right = (drafts[1:] == target_predict[i, :-1]).int().cumprod(0)
        accepted = min(int(right.sum()), accept_index.shape[1] - 1)
        slots = retrive_index[i, : accepted + 1]
        accept_index[i, : accepted + 1] = slots.to(accept_index.dtype)
        predicts[slots] = target_predict[i, : accepted + 1].to(predicts.dtype)
        accept_token_num[i] = accepted


def assign_extend_cache_locs_cpu(
    req_pool_indices: Any, req_to_token: Any, start: Any, end: Any, out_cache_loc: Any, *_: object
) -> None:
    """Read which slots of the KV cache each request's tokens from start to end have."""
    taken = 0
    for request, first, last in zip(
        req_pool_indices.tolist(), start.tolist(), end.tolist(), strict=True
    ):
        out_cache_loc[taken : taken + last - first] = req_to_token[request, first:last]
        taken += last - first


def assign_draft_cache_locs_contiguous_cpu(
    req_pool_indices: Any,
    req_to_token: Any,
    seq_lens: Any,
    out_cache_loc: Any,
    _pool_len: int,
    topk: int,
    num_cols: int,
) -> None:
    """Read which slots each request's drafts take: those after its tokens."""
    end = seq_lens + topk * num_cols
    assign_extend_cache_locs_cpu(req_pool_indices, req_to_token, seq_lens, end, out_cache_loc)


def fill_bonus_tokens_cpu(
    accept_tokens: Any, accept_lens: Any, bonus_tokens: Any, accept_stride: int
) -> None:
    """Take each request's last accepted token."""
    last = torch.arange(len(accept_lens)) * accept_stride + accept_lens - 1
    bonus_tokens.copy_(accept_tokens.flatten()[last])


def fill_accept_out_cache_loc_cpu(
    accept_index: Any, out_cache_loc: Any, accept_out_cache_loc: Any
) -> None:
    """Pack the slots of what was accepted."""
    accepted = accept_index.flatten()
    accepted = accepted[accepted >= 0]
    accept_out_cache_loc[: len(accepted)] = out_cache_loc[accepted]


def build_draft_decode_metadata_cpu(
    req_to_token: Any, req_pool_indices: Any, _lens: Any, topk: int, *_: object
) -> Any:
    """Each request's row of slots; a chain's drafts already stand behind its tokens."""
    assert topk == 1
    return req_to_token[req_pool_indices]


def copy_all_layer_kv_cache_cpu(data_ptrs: Any, strides: Any, target: Any, source: Any) -> None:
    """Move slots in each of the buffers at these addresses; a slot is `stride` bytes."""
    for base, stride in zip(data_ptrs.tolist(), strides.tolist(), strict=True):
        slots = [string_at(base + slot * stride, stride) for slot in source.tolist()]
        for slot, content in zip(target.tolist(), slots, strict=True):
            memmove(base + slot * stride, content, stride)


def extend_attention_cpu(
    q: Any,
    _k: Any,
    _v: Any,
    o: Any,
    key_buffer: Any,
    value_buffer: Any,
    _k_scale: float,
    _v_scale: float,
    req_to_token: Any,
    req_pool_indices: Any,
    seq_lens: Any,
    extend_seq_lens: Any,
    extend_start_loc: Any,
    _max_extend_len: int,
    scaling: float,
    *_: object,
) -> None:
    """Attend from each request's new tokens, whose keys and values are in the cache by now."""
    spans = zip(extend_start_loc.tolist(), extend_seq_lens.tolist(), strict=True)
    for (start, new), request, length in zip(
        spans, req_pool_indices.tolist(), seq_lens.tolist(), strict=True
    ):
        slots = req_to_token[request, :length].long()
        causal = torch.ones(new, length).tril(length - new).bool()
        rows = slice(start, start + new)
        o[rows] = _attend(q[rows], key_buffer[slots], value_buffer[slots], scaling, causal)


def decode_attention_cpu(
    q: Any,
    key_buffer: Any,
    value_buffer: Any,
    _k_scale: float,
    _v_scale: float,
    o: Any,
    k: Any,
    v: Any,
    out_cache_loc: Any,
    _attn_logits: Any,
    req_to_token: Any,
    req_pool_indices: Any,
    seq_lens: Any,
    scaling: float,
    *_: object,
) -> None:
    """Keep each request's new key and value, and attend from its one token."""
    if k is not None:
        key_buffer[out_cache_loc] = k.view(-1, *key_buffer.shape[1:])
        value_buffer[out_cache_loc] = v.view(-1, *value_buffer.shape[1:])
    for i, (request, length) in enumerate(
        zip(req_pool_indices.tolist(), seq_lens.tolist(), strict=True)
    ):
        slots = req_to_token[request, :length].long()
        one = slice(i, i + 1)
        o[one] = _attend(q[one], key_buffer[slots], value_buffer[slots], scaling, None)


def _attend(q: Any, k: Any, v: Any, scaling: float, mask: Any) -> Any:
    """Attention of one request; tensors are (tokens, heads, width)."""
    return scaled_dot_product_attention(
        *(heads.transpose(0, 1).unsqueeze(0) for heads in (q, k, v)),
        attn_mask=mask,
        scale=scaling,
        enable_gqa=True,
    )[0].transpose(0, 1)


torch.ops.sgl_kernel.decode_attention_cpu = decode_attention_cpu
torch.ops.sgl_kernel.extend_attention_cpu = extend_attention_cpu
