"""Trains a small Vision Transformer on Fashion-MNIST: patches of the image are the words of a sentence.

examples/cpp/fashion_mnist_vit.cpp is the same program in C++.
"""

import argparse
import os

import support
import tensorgrad as torch
from tensorgrad import nn
from tensorgrad.nn.functional import cross_entropy, gelu
from tensorgrad.utils.data import DataLoader


class Block(nn.Module):
    """Attention and a two-layer network, each on normalised input and added to it. (N, T, width) -> the same."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.fc2(gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Images (N, 1, size, size) -> logits (N, 10). A convolution makes one vector of each patch."""

    def __init__(self, size, patch, width, heads, depth):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2, width))
        nn.init.normal_(self.position, 0, 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


@torch.no_grad()
def accuracy(model, test, device):
    model.eval()
    right = sum(
        model(x.to(device)).argmax(1).eq(y.to(device)).sum().item() for x, y in DataLoader(test, batch_size=500)
    )
    model.train()
    return right / len(test)


def main():
    options = argparse.ArgumentParser(description="Trains a small Vision Transformer on Fashion-MNIST.")
    options.add_argument(
        "--data", default="", help="folder with the four IDX files; else Debian's package, else the digits here"
    )
    options.add_argument("--epochs", type=int, default=2, help="passes over the training images")
    options.add_argument("--batch-size", type=int, default=64, help="images in a step")
    options.add_argument(
        "--lr", type=float, default=0.001, help="learning rate of AdamW at the start; a half cosine takes it to 0"
    )
    options.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    options.add_argument("--width", type=int, default=64, help="size of each patch's vector")
    options.add_argument("--depth", type=int, default=4, help="blocks")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--out", default="runs/fashion_mnist_vit", help="folder for what is written")
    options.add_argument("--quick", action="store_true", help="a short run on the digits, for tests")
    options = options.parse_args()
    if options.quick:
        options.data, options.epochs, options.depth = support.DIGITS, 1, 2
    os.makedirs(options.out, exist_ok=True)
    train, test, _, _ = support.find_data(options.data, mean=0.2860, std=0.3530)
    size = train.data.size(1)

    torch.manual_seed(options.seed)
    order = torch.Generator()
    order.manual_seed(options.seed)
    model = ViT(size, 4 if size >= 28 else 2, options.width, 4, options.depth).to(options.device)
    loader = DataLoader(train, batch_size=options.batch_size, shuffle=True, num_workers=1, generator=order)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(loader))

    for epoch in range(1, options.epochs + 1):
        bar, total = support.Progress(f"epoch {epoch}", len(loader)), 0.0
        for step, (x, y) in enumerate(loader, 1):
            loss = cross_entropy(model(x.to(options.device)), y.to(options.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            bar.update(step, step * options.batch_size, loss.item())
        bar.close()
        print(
            f"epoch {epoch}  loss {total / len(loader):.4f}  "
            f"test accuracy {100 * accuracy(model, test, options.device):.2f} %  {bar.images_per_second:.0f} images/s"
        )
    torch.save(model.state_dict(), f"{options.out}/model.safetensors")
    print(f"written to {options.out}: model.safetensors")


if __name__ == "__main__":
    main()
