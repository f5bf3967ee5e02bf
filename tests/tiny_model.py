"""A tiny ONNX embedding model: each token has a fixed random vector, and a text the mean of its tokens."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

DIMENSIONS = 384
WORDS = (
    "postgres lock timeout redis eviction kubernetes oomkilled pytest fixture tls certificate expired deadlock "
    "asyncio index query"
).split()


def make(folder: Path, *, is_quantized: bool = False) -> Path:
    """Write a model of 384 dimensions that `fastembed` loads to `folder`: texts that share words are similar.

    If it `is_quantized`, it rounds all numbers of a batch by the largest of them, as dynamically quantized models do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256, **special}))
    (folder / "config.json").write_text(
        json.dumps({"hidden_size": DIMENSIONS, "pad_token_id": 0, "max_position_embeddings": 256})
    )
    table = np.random.default_rng(7).normal(size=(len(vocabulary), DIMENSIONS)).astype(np.float32)
    # Special tokens and unknown words get little weight, so that shared words decide.
    table[:4] *= 0.05
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["rows", "tokens", DIMENSIONS])
    if is_quantized:
        # The numbers of one word are so large that those of all others become coarse.
        table[vocabulary["kubernetes"]] *= 30
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["numbers"]),
            helper.make_node("DynamicQuantizeLinear", ["numbers"], ["rounded", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], ["last_hidden_state"]),
        ]
    else:
        nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], [numpy_helper.from_array(table, "table")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    return folder
