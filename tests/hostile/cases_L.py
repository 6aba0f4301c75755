"""Hostile weights to fold: --fold-norms and --merge-lora over parts that do not fit each other,
numbers that are none, adapters and configs that lie. Each is refused by its name, and nothing is
written."""

import json
import struct

from lib import case, safetensors_bytes

NAN, INF = float("nan"), float("inf")


def f32(name, shape, *values):
    n = 1
    for d in shape:
        n *= d
    values = list(values) or [1.0 + i for i in range(n)]
    return name, "F32", shape, struct.pack(f"<{n}f", *(values * n)[:n])


def eight(name, shape):
    n = 1
    for d in shape:
        n *= d
    return name, "F8_E4M3", shape, bytes([0x38] * n)


# ---- norms ----
FOLD = (("convert", "{file}", "-o", "{out}/OUT.safetensors", "--fold-norms"),
        ("convert", "{file}", "-o", "{out}/OUT.safetensors", "--fold-norms", "-j", "1"))
DRY = (("convert", "{file}", "--dry-run", "--format", "safetensors", "--fold-norms"),) + FOLD
WEIGHT = safetensors_bytes([f32("a.weight_v", (4, 3)), f32("a.weight_g", (4, 1))])
SPECTRAL = safetensors_bytes([f32("a.weight_orig", (4, 3)), f32("a.weight_u", (4,)),
                              f32("a.weight_v", (3,))])


def norm(id, code, tensors, twin=WEIGHT, args=DRY):
    case(id, "m.safetensors", 4, code, False, args=args, build=safetensors_bytes(tensors),
         twin=twin)


V, G = f32("a.weight_v", (4, 3)), f32("a.weight_g", (4, 1))
norm("L01-rows", "fold-shape", [V, f32("a.weight_g", (3, 1))])
norm("L01-both", "fold-shape", [V, f32("a.weight_g", (4, 3))])
norm("L01-rank", "fold-shape", [V, f32("a.weight_g", (4, 1, 1))])
norm("L01-none", "fold-shape", [V, f32("a.weight_g", (4, 0))])
norm("L01-scalar", "fold-shape", [f32("a.weight_v", ()), f32("a.weight_g", ())])
norm("L01-empty", "fold-shape", [f32("a.weight_v", (4, 0)), G])
norm("L01-u", "fold-shape", [f32("a.weight_orig", (4, 3)), f32("a.weight_u", (4,)),
                             f32("a.weight_v", (4,))], SPECTRAL)
norm("L01-u-zero", "fold-shape", [f32("a.weight_orig", (0, 3)), f32("a.weight_u", (0,)),
                                  f32("a.weight_v", (3,))], SPECTRAL)
norm("L01-u-rank", "fold-shape", [f32("a.weight_orig", (4, 3)), f32("a.weight_u", (4, 1)),
                                  f32("a.weight_v", (3,))], SPECTRAL)
norm("L01-axis", "fold-axis", [f32("a.weight_orig", (3, 3, 1)), f32("a.weight_u", (3,)),
                               f32("a.weight_v", (3,))], SPECTRAL)
norm("L02-int", "fold-type", [("a.weight_v", "I32", (4, 3), bytes(48)), G])
norm("L02-int-g", "fold-type", [V, ("a.weight_g", "I32", (4, 1), bytes(16))])
norm("L02-eight", "fold-type", [eight("a.weight_v", (4, 3)), G, f32("a.weight_scale", (1,))])
norm("L02-eight-g", "fold-type", [V, eight("a.weight_g", (4, 1))])
norm("L03-taken", "fold-taken", [V, G, f32("a.weight", (4, 3))])
norm("L03-twice", "fold-taken", [V, G, f32("a.parametrizations.weight.original1", (4, 3)),
                                 f32("a.parametrizations.weight.original0", (4, 1))])
norm("L03-steps", "fold-steps", [f32("batch_stats.S.d/kernel/u", (1, 3)), V, G])
# numbers: told only when they are read
norm("L04-zero", "fold-zero", [f32("a.weight_v", (4, 3), 0.0), G], args=FOLD)
norm("L04-zero-row", "fold-zero", [f32("a.weight_v", (4, 3), *[1.0] * 9, 0.0, 0.0, 0.0), G],
     args=FOLD)
norm("L04-nan", "fold-zero", [f32("a.weight_v", (4, 3), 1.0, NAN, 1.0), G], args=FOLD)
norm("L04-inf", "fold-zero", [f32("a.weight_v", (4, 3), 1.0, INF, 1.0), G], args=FOLD)
norm("L04-g-nan", "fold-value", [V, f32("a.weight_g", (4, 1), 1.0, NAN, 1.0)], args=FOLD)
norm("L04-g-inf", "fold-value", [V, f32("a.weight_g", (4, 1), -INF)], args=FOLD)
norm("L04-sigma", "fold-zero", [f32("a.weight_orig", (4, 3)), f32("a.weight_u", (4,), 0.0),
                                f32("a.weight_v", (3,))], SPECTRAL, FOLD)
norm("L04-half", "overflow", [("a.weight_v", "F16", (1, 1), b"\0\x3c"), f32("a.weight_g", (1, 1), 1e9)],
     args=FOLD)
case("L04-g-zero", "m.safetensors", 0, args=FOLD,
     build=safetensors_bytes([V, f32("a.weight_g", (4, 1), 0.0)]),
     expect_tensors={"a.weight": bytes(48)})
# many of them: time and memory go with their number
MANY = [t for i in range(3000) for t in ((f"m.{i}.layer.weight", "F32", (1, 1), b"\0\0\x80\x3f"),
                                          (f"m.{i}.layer.bias", "F32", (1,), bytes(4)),
                                          (f"m.{i}.g", "F32", (1, 1), b"\0\0\x80\x3f"))]
case("L05-many", "m.safetensors", 0, args=FOLD[:1], build=safetensors_bytes(MANY),
     metadata_bytes=1 << 20)

# ---- LoRA ----
MERGE = (("convert", "{file}", "-o", "{out}/OUT.safetensors", "--merge-lora", "{dir}/ad"),)
DRY_MERGE = (("convert", "{file}", "--dry-run", "--format", "safetensors", "--merge-lora",
              "{dir}/ad"),) + MERGE
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "fan_in_fan_out": False}
BASE = [f32("fc.weight", (4, 3))]
P = "base_model.model.fc."
A, B = f32(P + "lora_A.weight", (2, 3)), f32(P + "lora_B.weight", (4, 2))


def adapted(base=BASE, adapter=(A, B), config=CONFIG):
    def build(folder):
        (folder / "ad").mkdir()
        (folder / "ad" / "adapter_model.safetensors").write_bytes(safetensors_bytes(list(adapter)))
        if config is not None:
            text = config if isinstance(config, (str, bytes)) else json.dumps(config)
            data = text if isinstance(text, bytes) else text.encode()
            (folder / "ad" / "adapter_config.json").write_bytes(data)
        return safetensors_bytes(list(base))
    return build


def lora(id, code, args=DRY_MERGE, exit=4, **what):
    case(id, "m.safetensors", exit, code, False, args=args, build=adapted(**what), twin=adapted())


lora("L10-rank", "lora-shape", adapter=(f32(P + "lora_A.weight", (3, 3)), B))
lora("L10-rank-both", "lora-shape", adapter=(f32(P + "lora_A.weight", (3, 3)),
                                             f32(P + "lora_B.weight", (4, 3))))
lora("L10-inputs", "lora-shape", adapter=(f32(P + "lora_A.weight", (2, 5)), B))
lora("L10-outputs", "lora-shape", adapter=(A, f32(P + "lora_B.weight", (5, 2))))
lora("L10-empty", "lora-shape", adapter=(f32(P + "lora_A.weight", (0, 3)),
                                         f32(P + "lora_B.weight", (4, 0))))
lora("L10-scalar", "lora-shape", adapter=(f32(P + "lora_A.weight", ()),
                                          f32(P + "lora_B.weight", ())))
lora("L10-base-empty", "lora-shape", base=[f32("fc.weight", (4, 0))])
lora("L11-no-b", "lora-pair", adapter=(A,))
lora("L11-no-a", "lora-pair", adapter=(B,))
lora("L11-base", "lora-base", base=[f32("other.weight", (4, 3))])
lora("L11-none", None, adapter=())
lora("L11-more", "lora-other", adapter=(A, B, f32("base_model.model.head.weight", (4, 3))))
lora("L11-dora", "lora-other", adapter=(A, B, f32(P + "lora_magnitude_vector.weight", (4,))))
lora("L11-several", "lora-several",
     adapter=[f32(f"{P}lora_{x}.{k}.weight", s) for k in ("one", "two")
              for x, s in (("A", (2, 3)), ("B", (4, 2)))])
lora("L11-both-ways", "lora-several",
     adapter=(A, B, f32("fc.lora_A.weight", (2, 3)), f32("fc.lora_B.weight", (4, 2))))
lora("L12-eight", "fold-type", base=[eight("fc.weight", (4, 3)), f32("fc.weight_scale", (1,))])
lora("L12-int8", "fold-type", base=[("fc.weight", "I8", (4, 3), bytes(12))])
lora("L12-int-a", "fold-type", adapter=(("" + P + "lora_A.weight", "I32", (2, 3), bytes(24)), B))
for name, change in (("none", None), ("empty", b""), ("list", b"[]"), ("cut", b'{"peft_type": "LO'),
                     ("nul", b'{"peft_type": "LORA"\0}'), ("kind", {"peft_type": "IA3"}),
                     ("r-text", {"r": "two"}), ("r-zero", {"r": 0}), ("r-minus", {"r": -2}),
                     ("r-half", {"r": 2.5}), ("r-2p64", {"r": 1 << 64}),
                     ("alpha-none", {"lora_alpha": None}), ("alpha-text", {"lora_alpha": "8"}),
                     ("pattern-text", {"alpha_pattern": {"fc": "8"}}),
                     ("pattern-list", {"alpha_pattern": [8]})):
    config = {**CONFIG, **change} if isinstance(change, dict) else change
    lora(f"L13-{name}", "lora-config" if name not in ("cut", "nul", "empty") else None,
         exit=3 if name in ("cut", "nul") else 4, config=config)
TEXT = json.dumps(CONFIG).replace('"lora_alpha": 8', '"lora_alpha": %s')
lora("L13-alpha-1e999", "lora-config", config=TEXT % "1e999")
lora("L13-alpha-nan", None, config=TEXT % "NaN", exit=3)
lora("L13-alpha-inf", None, config=TEXT % "Infinity", exit=3)
lora("L13-alpha-absurd", "overflow", MERGE, config=TEXT % "1e300")
lora("L13-alpha-far", "fold-value", MERGE, config=TEXT % "1.7e308")
lora("L13-deep", None, config=b'{"peft_type": "LORA", "x": ' + b"[" * 100000, exit=3)
lora("L14-a-nan", "fold-value", MERGE, adapter=(f32(P + "lora_A.weight", (2, 3), NAN), B))
lora("L14-b-inf", "fold-value", MERGE, adapter=(A, f32(P + "lora_B.weight", (4, 2), INF)))
lora("L14-w-nan", "fold-value", MERGE, base=[f32("fc.weight", (4, 3), 1.0, NAN)])

# ---- LoRA of Flax NNX ----
NNX = (("convert", "{file}", "-o", "{out}/OUT.safetensors", "--merge-lora", "{file}"),)
NNX_TWIN = safetensors_bytes([f32("fc.base_module.kernel", (3, 4)), f32("fc.lora_a", (3, 2)),
                              f32("fc.lora_b", (2, 4))])


def nnx(id, code, *tensors):
    case(id, "m.safetensors", 4, code, False, args=NNX, build=safetensors_bytes(list(tensors)),
         twin=NNX_TWIN)


KERNEL, LORA_A, LORA_B = (f32("fc.base_module.kernel", (3, 4)), f32("fc.lora_a", (3, 2)),
                          f32("fc.lora_b", (2, 4)))
nnx("L20-rank", "lora-shape", KERNEL, LORA_A, f32("fc.lora_b", (3, 4)))
nnx("L20-empty", "lora-shape", KERNEL, f32("fc.lora_a", (3, 0)), f32("fc.lora_b", (0, 4)))
nnx("L20-no-b", "lora-pair", KERNEL, LORA_A)
nnx("L20-no-base", "lora-base", LORA_A, LORA_B)
nnx("L20-eight", "fold-type", eight("fc.base_module.kernel", (3, 4)), LORA_A, LORA_B)
nnx("L20-nan", "fold-value", KERNEL, f32("fc.lora_a", (3, 2), NAN), LORA_B)
nnx("L20-taken", "fold-taken", KERNEL, LORA_A, LORA_B, f32("fc.kernel", (3, 4)))
