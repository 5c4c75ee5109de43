"""Trains a small convolutional network on Fashion-MNIST: at least 90 % of the test images right after two epochs.

Shows a progress bar, keeps a checkpoint from which --resume continues bit by bit, draws curves and a confusion matrix.
examples/cpp/fashion_mnist.cpp is the same program in C++ and reaches the same losses from the same seed.
"""

import argparse
import math
import os
import sys
import time

import support
import tensorgrad as torch
from tensorgrad import nn
from tensorgrad.nn.functional import cross_entropy, max_pool2d, relu
from tensorgrad.utils.data import DataLoader

ABOUT = """Trains a small convolutional network on Fashion-MNIST (60,000 training images of clothing, 28x28).
After two epochs it names more than 90 % of the 10,000 test images right. What it writes to --out:
  model.safetensors       the weights          curves.svg     loss and accuracy
  checkpoint.safetensors  all for --resume     confusion.svg  what is taken for what
Try: --epochs 5, --lr 0.0005, --batch-size 32; stop it with Ctrl-C and go on with --resume."""


class Net(nn.Module):
    """Two convolutions that halve the picture, and two linear layers. Images (N, 1, size, size) -> logits (N, 10)."""

    def __init__(self, size):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(64 * (size // 4) * (size // 4), 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images):
        x = max_pool2d(relu(self.norm1(self.conv1(images))), 2)
        x = max_pool2d(relu(self.norm2(self.conv2(x))), 2)
        return self.fc2(relu(self.fc1(x.flatten(1))))


@torch.no_grad()
def evaluate(model, test, device):
    """The share of right answers, and counts[i][j]: images of class i taken for class j."""
    model.eval()
    classes = len(test.classes)
    counts = [[0] * classes for _ in range(classes)]
    for x, y in DataLoader(test, batch_size=500):
        for truth, taken in zip(y.tolist(), model(x.to(device)).argmax(1).tolist(), strict=True):
            counts[truth][taken] += 1
    model.train()
    return sum(counts[i][i] for i in range(classes)) / len(test), counts


class Training:
    """All that a bit-exact continuation needs."""

    def __init__(self, model, optimizer, schedule, loader, order):
        self.model, self.optimizer, self.schedule, self.loader, self.order = model, optimizer, schedule, loader, order
        self.epoch, self.losses, self.accuracies = 0, [], []

    def write(self, path, options):
        state = {
            "options": options,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "loader": self.loader.state_dict(),
            "random": torch.get_rng_state(),
            "order": self.order.get_state(),
            "epoch": self.epoch,
            "losses": self.losses,
            "accuracies": self.accuracies,
        }
        torch.save(state, path)

    def read(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["random"])
        self.order.set_state(state["order"])
        self.epoch, self.losses, self.accuracies = state["epoch"], list(state["losses"]), list(state["accuracies"])


def parse():
    options = argparse.ArgumentParser(description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--data", default="", help="folder with the four IDX files; else Debian's package, else the digits here"
    )
    options.add_argument("--epochs", type=int, default=2, help="passes over the training images [2]")
    options.add_argument("--batch-size", type=int, default=64, help="images in a step [64]")
    options.add_argument(
        "--lr", type=float, default=0.001, help="learning rate of Adam at the start; a half cosine takes it to 0"
    )
    options.add_argument("--seed", type=int, default=0, help="seed of weights and order [0]")
    options.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    options.add_argument("--out", default="runs/fashion_mnist", help="folder for what is written [runs/fashion_mnist]")
    options.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --out, with its options"
    )
    options.add_argument(
        "--stop-after", type=int, default=0, help="save and stop after that many steps, as Ctrl-C does; 0: never"
    )
    options.add_argument("--quick", action="store_true", help="a short run on the digits, for tests")
    options = options.parse_args()
    if options.quick:
        options.data = support.DIGITS
    return options


def main():
    options = parse()
    checkpoint, state = f"{options.out}/checkpoint.safetensors", None
    if options.resume:
        state = torch.load(checkpoint)
        saved = state["options"]
        options.data, options.epochs = saved["data"], max(options.epochs, saved["epochs"])
        options.batch_size, options.lr, options.seed = saved["batch_size"], saved["lr"], saved["seed"]
    os.makedirs(options.out, exist_ok=True)
    train, test, name, folder = support.find_data(options.data, mean=0.2860, std=0.3530)

    torch.manual_seed(options.seed)
    order = torch.Generator()
    order.manual_seed(options.seed)
    model = Net(train.data.size(1)).to(options.device)
    loader = DataLoader(train, batch_size=options.batch_size, shuffle=True, num_workers=1, generator=order)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(loader))
    training = Training(model, optimizer, schedule, loader, order)
    if state:
        training.read(state)
        if options.epochs > saved["epochs"]:  # a longer schedule than before: where it would stand now
            schedule.T_max = options.epochs * len(loader)
            optimizer.param_groups[0]["lr"] = (
                options.lr * (1 + math.cos(math.pi * len(training.losses) / schedule.T_max)) / 2
            )
    saved = {
        "data": folder,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "seed": options.seed,
    }

    count = sum(p.numel() for p in model.parameters())
    print(
        f"model: {count} parameters; {len(loader)} steps of {options.batch_size} images an epoch; "
        f"{torch.get_num_threads()} threads"
    )
    if state:
        print(f"continuing with epoch {training.epoch + 1}, step {len(training.losses)}")

    support.catch_interrupt()
    start, counts, steps = time.monotonic(), None, 0
    while training.epoch < options.epochs:
        bar = support.Progress(f"epoch {training.epoch + 1}", len(loader))
        for x, y in loader:
            loss = cross_entropy(model(x.to(options.device)), y.to(options.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            training.losses.append(loss.item())
            position = len(training.losses) - training.epoch * len(loader)
            bar.update(position, position * options.batch_size, training.losses[-1])
            steps += 1
            if (support.interrupted() or steps == options.stop_after) and (
                position < len(loader) or training.epoch + 1 < options.epochs
            ):
                bar.close()
                if position == len(loader):  # the epoch is over: its evaluation belongs to it
                    training.accuracies.append(evaluate(model, test, options.device)[0])
                    training.epoch += 1
                training.write(checkpoint, saved)
                print(
                    f"stopped after step {len(training.losses)}; saved. To continue:\n"
                    f"  {sys.argv[0]} --resume --out {options.out}"
                )
                return
        bar.close()
        accuracy, counts = evaluate(model, test, options.device)
        training.accuracies.append(accuracy)
        training.epoch += 1
        last = training.losses[-len(loader) :]
        print(
            f"epoch {training.epoch}  loss {sum(last) / len(last):.4f}  test accuracy {100 * accuracy:.2f} %  "
            f"{bar.images_per_second:.0f} images/s"
        )
        training.write(checkpoint, saved)
    if counts is None:
        counts = evaluate(model, test, options.device)[1]

    torch.save(model.state_dict(), f"{options.out}/model.safetensors")
    with open(f"{options.out}/curves.svg", "w") as file:
        file.write(support.curves_svg(name, training.losses, training.accuracies, len(loader)))
    with open(f"{options.out}/confusion.svg", "w") as file:
        file.write(support.confusion_svg(counts, train.classes))
    print(support.confusion_text(counts, train.classes))
    seconds = time.monotonic() - start
    print(
        f"{seconds:.1f} s; written to {options.out}: model.safetensors, checkpoint.safetensors, curves.svg, "
        "confusion.svg"
    )
    print(
        f"next: {sys.argv[0]} --epochs {options.epochs + 2} --resume --out {options.out}"
        "   (or a Vision Transformer: fashion_mnist_vit.py)"
    )


if __name__ == "__main__":
    main()
