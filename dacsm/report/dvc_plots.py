def plots_of(dataset, experiment, paths):
    return []
