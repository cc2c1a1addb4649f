# A target for each phase of each dataset, such as digits_adapted: what the stages of dvc.yaml ask for. It is of all
# experiments of the dataset that `tables` in params.yaml names.
for name in SPECS:
    for phase, files in phase_targets(name).items():

        rule:
            name:
                f"{name}_{phase}"
            input:
                files,
