class A(Module):
  def forward(self: __torch__.A,
    x: Tensor) -> Tensor:
    weight = self.weight
    input = torch.layer_norm(x, [4], weight, None, 9.9999999999999998e-13)
    input0 = torch.gelu(torch.leaky_relu(input, 0.20000000000000001), approximate="tanh")
    return torch.avg_pool2d(input0, [3, 3], [1, 1], [1, 1], False, False)
class B(Module):
  def forward(self: __torch__.B, x: Tensor) -> Tensor:
    weight = self.weight
    x0 = torch.pad(x, [1, 1], "reflect")
    return torch._convolution(x0, weight, None, [1], [0], [1], True, [0], 1, False, False, True, True)
class L(Module):
  def forward(self: __torch__.L, x: Tensor) -> Tensor:
    weight_ih_l0 = self.weight_ih_l0
    weight_hh_l0 = self.weight_hh_l0
    _0 = [weight_ih_l0, weight_hh_l0]
    y, _1 = torch.rnn_relu(x, x, _0, False, 1, 0., False, False, True)
    return y
class Net(Module):
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    _0 = __torch__.torch.nn.functional.embedding
    _1 = getattr(self, "c")
    weight = _1.weight
    if torch.eq(x, 2):
      weight = self.a.weight
    return _0(x, weight, None, )
