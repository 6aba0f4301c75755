class GroupNorm(Module):
  num_groups : Final[int] = 2
  eps : Final[float] = 9.9999999999999995e-07
class BatchNorm1d(Module):
  eps : Final[float] = 0.001
  momentum : Final[float] = 0.029999999999999999
class ConvTranspose1d(Module):
  dilation : Final[Tuple[int]] = (1,)
  stride : Final[Tuple[int]] = (2,)
  padding_mode : Final[str] = "zeros"
  groups : Final[int] = 2
  padding : Final[Tuple[int]] = (0,)
  output_padding : Final[Tuple[int]] = (0,)
class Conv1d(Module):
  dilation : Final[Tuple[int]] = (2,)
  stride : Final[Tuple[int]] = (1,)
  padding_mode : Final[str] = "zeros"
  groups : Final[int] = 1
  padding : Final[str] = "same"
class MultiheadAttention(Module):
  batch_first : Final[bool] = True
