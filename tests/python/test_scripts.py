"""A PyTorch user's scripts run with only the import line changed, and back."""

import subprocess
import sys

import pytest

XOR = """
import {library} as torch
import {library}.nn as nn
import {library}.nn.functional as F
from {library}.optim import Adam


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.hidden = nn.Linear(2, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return torch.sigmoid(self.out(torch.tanh(self.hidden(x))))


torch.manual_seed(3)
x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float32)
y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
net = Net()
optimizer = Adam(net.parameters(), lr=0.05)
loss_function = nn.BCELoss()
for epoch in range(400):
    optimizer.zero_grad()
    loss = loss_function(net(x), y)
    loss.backward()
    optimizer.step()
with torch.no_grad():
    answer = (net(x) > 0.5).int()
print(net)
print(answer)
print(answer.squeeze().tolist(), f"{{loss.item() < 0.1}}", loss.dtype, loss.shape, net.out.weight.shape)
"""

CLASSIFIER = """
import {library} as torch
from {library} import nn, optim
from {library}.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
x = torch.linspace(-1, 1, 64).reshape(16, 1, 2, 2)
y = (x.mean(dim=(1, 2, 3)) > 0).long()
model = nn.Sequential(nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1),
                      nn.Flatten(), nn.Linear(4, 2)).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
for epoch in range(30):
    model.train()
    for data, target in DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(data), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    scheduler.step()
model.eval()
correct = 0
with torch.no_grad():
    for data, target in DataLoader(TensorDataset(x, y), batch_size=8):
        prediction = model(data.to(device)).argmax(dim=1, keepdim=True)
        correct += prediction.eq(target.view_as(prediction)).sum().item()
print(correct, scheduler.get_last_lr())
print(sum(p.numel() for p in model.parameters() if p.requires_grad), list(model.state_dict().keys()))
"""


@pytest.mark.parametrize("script", [XOR, CLASSIFIER], ids=["xor", "classifier"])
def test_the_same_script_under_both_libraries(script, tmp_path):
    pytest.importorskip("torch")
    outputs = []
    for library in ("tensorgrad", "torch"):
        path = tmp_path / f"{library}_script.py"
        path.write_text(script.format(library=library))
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
